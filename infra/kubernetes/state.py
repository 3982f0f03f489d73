"""How a stack's parts are in its cluster, from what its API says: ready pods, and why others are not."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.kubernetes import labels
from infra.stack import Stack

#: What a container waits for while it starts as it should.
STARTING = {"ContainerCreating", "PodInitializing"}


@dataclass(frozen=True, slots=True)
class Part:
    """A pool or the gateway: how many pods it wants, how many are ready, and why others are not."""

    name: str
    wanted: int
    ready: int
    reasons: tuple[str, ...]

    @property
    def state(self) -> str:
        """The state as `fleet status` shows it: healthy, or a word and the reasons."""
        pods = f"{self.ready} of {self.wanted} pods are ready"
        if self.ready >= self.wanted > 0:
            return "healthy"
        if self.wanted == 0:
            return "drained: it has no pods"
        return f"{'unhealthy' if self.ready else 'down'}: {'; '.join([pods, *self.reasons])}"


def condition(of: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition in an object's status; empty where it has none of that type."""
    found = [each for each in of.get("status", {}).get("conditions") or [] if each["type"] == kind]
    return found[0] if found else {}


def is_ready(pod: Mapping[str, Any]) -> bool:
    """Whether a pod's readiness probes pass."""
    return condition(pod, "Ready").get("status") == "True"


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the kubelet tells of a pod's containers: the sidecars, then the others."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def refusal(deployment: Mapping[str, Any]) -> str | None:
    """Why the API server refused pods of a Deployment (a quota, Pod Security); None where it did not."""
    failure = condition(deployment, "ReplicaFailure")
    return str(failure["message"]) if failure.get("status") == "True" else None


def parts(stack: Stack, items: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The pools in their order, then the gateway. `items` are the stack's Deployments and pods."""
    named = {each.name: labels.of_pool(stack, each) for each in stack.pools}
    named[labels.GATEWAY] = labels.of_gateway(stack)
    return [_part(name, selecting, items) for name, selecting in named.items()]


def _part(name: str, selecting: Mapping[str, str], items: Sequence[Mapping[str, Any]]) -> Part:
    """A part, which may have several Deployments, by the labels of its objects."""
    own = [each for each in items if selecting.items() <= each["metadata"].get("labels", {}).items()]
    found = [each for each in own if each["kind"] == "Deployment"]
    if not found:
        return Part(name, 1, 0, ("it is not in the cluster",))
    pods = [each for each in own if each["kind"] == "Pod"]
    counted = Counter(reason for each in pods for reason in [why(each)] if reason is not None)
    reasons = [f"{count} × {reason}" if count > 1 else reason for reason, count in counted.items()]
    # Quotas and Pod Security refuse pods, so there is none that could say it.
    reasons += [refused for each in found if (refused := refusal(each)) is not None]
    wanted = sum(each["spec"].get("replicas", 1) for each in found)
    ready = sum(each.get("status", {}).get("readyReplicas", 0) for each in found)
    return Part(name, wanted, ready, tuple(reasons))


def why(pod: Mapping[str, Any]) -> str | None:
    """Why a pod is not ready, in the scheduler's or the kubelet's words; None where it is ready or ends."""
    if pod["metadata"].get("deletionTimestamp") or is_ready(pod):
        return None
    placed = condition(pod, "PodScheduled")
    if placed.get("status") == "False":
        return str(placed.get("message") or placed.get("reason"))
    for each in containers(pod):
        waiting = each.get("state", {}).get("waiting", {})
        if waiting and waiting.get("reason") not in STARTING:
            return f"{each['name']}: {waiting.get('reason')} {waiting.get('message', '')}".strip()
        last = each.get("lastState", {}).get("terminated") or each.get("state", {}).get("terminated")
        if last and not each.get("ready"):
            return f"{each['name']}: ended with status {last.get('exitCode')} ({last.get('reason')})"
        if each.get("started") is False and each.get("state", {}).get("running"):
            return f"{each['name']} starts: its startup probe has not passed yet"
    ready = condition(pod, "ContainersReady")
    return str(ready.get("message") or "it starts")
