"""Containers that do not run: images that cannot be pulled, crash loops, probes that fail."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from infra import names
from infra.doctor.advice import advice
from infra.doctor.cluster.seen import Object, Seen, pods_of, when
from infra.doctor.findings import Outcome, ok, problem, warning
from infra.kubernetes import labels
from infra.kubernetes.kubectl import shown
from infra.kubernetes.state import STARTING, containers
from infra.stack import Stack

#: How the kubelet calls an image that it cannot get.
_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
_IMAGE |= {"RegistryUnavailable", "SignatureValidationFailed"}
#: The keys of the stack file with a container's image, and with its memory.
_IMAGE_KEYS: Final = {
    names.TRITON: "triton.image",
    names.SERVICE: "service.image",
    names.UNIT_MANAGER: "edgeLlm.unitManager.image",
    names.LLM_NODE: "edgeLlm.llmNode.image",
    "nginx": "gateway.image",
    names.CONSOLE: "service.image",
}
_MEMORY_KEYS: Final = {
    names.TRITON: "triton.memory",
    names.SERVICE: "service.memory",
    names.UNIT_MANAGER: "edgeLlm.unitManager.memory",
    names.LLM_NODE: "edgeLlm.llmNode.memory",
    "nginx": "kubernetes.gateway.memory",
    names.CONSOLE: "gateway.console.memory",
}
#: A container that ended in this time and runs again is worth a look.
_RECENT = timedelta(hours=24)
_MOST_TOLD = 5


@dataclass(frozen=True, slots=True)
class Container:
    """A container of a pod, as the kubelet tells it: `waiting` and `last` have reason and message or exit."""

    pod: str
    name: str
    image: str
    ready: bool
    started: bool
    running: bool
    restarts: int
    waiting: Mapping[str, Any]
    last: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Pod and container."""
        return f"{self.pod} {self.name}"

    @property
    def fails(self) -> bool:
        """Whether it ended, or does not start, for a reason other than its image."""
        reason = self.waiting.get("reason")
        if reason is not None:
            return reason not in STARTING | _IMAGE
        return not self.running and bool(self.last) and self.last.get("exitCode") != 0


def of(stack: Stack, part: str, seen: Seen) -> Iterator[Container]:
    """The containers of a part's pods that the kubelet has told of."""
    for pod in pods_of(stack, seen, part):
        for each in containers(pod):
            state = each.get("state", {})
            last = state.get("terminated") or each.get("lastState", {}).get("terminated") or {}
            yield Container(
                pod["metadata"]["name"],
                each["name"],
                each.get("image", ""),
                bool(each.get("ready")),
                bool(each.get("started")),
                "running" in state,
                each.get("restartCount", 0),
                state.get("waiting") or {},
                last,
            )


def images(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Images that machines cannot get, in the words of the container runtime."""
    told: dict[tuple[str, str], list[Container]] = {}
    for each in of(stack, part, seen):
        if each.waiting.get("reason") in _IMAGE:
            told.setdefault((each.name, each.image), []).append(each)
    if not told:
        return ok("no machine fails to get one")
    lines: list[str] = []
    remedies = []
    for (name, image), waiting in told.items():
        words = _longest(each.waiting for each in waiting)
        pods = f" ({len(waiting)} pods)" if len(waiting) > 1 else ""
        secrets = [
            event["message"]
            for each in waiting
            for event in seen.events("Pod", each.pod, "FailedToRetrieveImagePullSecret")
        ]
        lines += dict.fromkeys([f"{name}{pods}: {words}", *secrets])
        remedies.append(image_remedy(stack, name, image, words, bool(secrets)))
    return problem("\n".join(lines), "\n".join(dict.fromkeys(remedies)))


def _longest(waiting: Sequence[Mapping[str, Any]] | Iterator[Mapping[str, Any]]) -> str:
    """The kubelet says the cause and then only that it waits: the longer message has the cause."""
    words = [f"{each['reason']}: {each.get('message', '')}".rstrip(": ") for each in waiting]
    return max(words, key=len)


def image_remedy(stack: Stack, container: str, image: str, words: str, no_secret: bool) -> str:
    """What to do about an image that a machine cannot get."""
    key = _IMAGE_KEYS.get(container, "image")
    again = f"then fleet deploy -s {stack.name}"
    if "InvalidImageName" in words or "invalid reference" in words or "couldn't parse image" in words:
        return f"correct {key}, {again}"
    if no_secret:
        return f"the Secret with the registries' logins is gone: fleet deploy --refresh -s {stack.name}"
    if re.search(r"[Uu]nauthorized|denied|no basic auth|authentication|authorization failed|40[13]\b", words):
        return (
            "give the cluster a login: images.username and images.password for images.registry, "
            f"images.logins for other registries; {again}"
        )
    if re.search(r"no match for platform|exec format", words):
        return f"{image} is for another processor: choose or build one for the machines' ({key}), {again}"
    if re.search(r"not found|manifest unknown|does not exist|NotFound", words):
        return f"push {image}, or correct {key} ({again}); a deploy pushes what it builds for images.registry"
    if re.search(r"x509|tls:|http: server gave HTTP response", words):
        return (
            "give the machines' container runtime the registry's authority, or its permission for plain HTTP"
        )
    if re.search(r"no such host|timed? ?out|refused|unreachable|deadline", words):
        return "let the machines reach the registry (DNS, firewall, proxy); the message has its address"
    return f"correct {key} or the registry ({again}); {shown(stack)} describe pods has the pull's events"


def to_read(stack: Stack, part: str, seen: Seen) -> list[Container]:
    """The failing containers whose last log lines tell why, one of each name."""
    found: dict[str, Container] = {}
    for each in of(stack, part, seen):
        if each.fails and each.last and each.restarts + (not each.running) > 0:
            found.setdefault(each.name, each)
    return list(found.values())


def ends(stack: Stack, part: str, seen: Seen, logs: Mapping[tuple[str, str], str], now: datetime) -> Outcome:
    """Containers that end or cannot be made. `logs` are last lines, by pod and container."""
    failing = [each for each in of(stack, part, seen) if each.fails]
    lines, remedies = [], []
    for each in failing[:_MOST_TOLD]:
        log = logs.get((each.pod, each.name), "")
        lines.append(_failure(each) + (f"; its log ends: {log}" if log else ""))
        remedies.append(end_remedy(stack, part, each, log))
    if failing:
        if len(failing) > _MOST_TOLD:
            lines.append(f"and {len(failing) - _MOST_TOLD} more")
        return problem("\n".join(lines), "\n".join(dict.fromkeys(remedies)))
    restarted = [each for each in of(stack, part, seen) if each.restarts and _recent(each.last, now)]
    if restarted:
        words = [
            f"{each.label}: restarted {each.restarts} times, last after {_ended(each.last)}"
            for each in restarted
        ]
        remedies = [end_remedy(stack, part, each, "") for each in restarted]
        return warning("\n".join(words[:_MOST_TOLD]), "\n".join(dict.fromkeys(remedies)))
    return ok("none ended in the last 24 hours")


def _failure(container: Container) -> str:
    words = f"{container.label}: "
    reason, message = container.waiting.get("reason"), container.waiting.get("message", "")
    if reason == "CrashLoopBackOff" and container.last:
        return f"{words}{reason}, restarted {container.restarts} times, last after {_ended(container.last)}"
    if reason is not None:
        return f"{words}{reason}: {message}".rstrip(": ")
    return f"{words}ended with {_ended(container.last)}"


def _ended(last: Mapping[str, Any]) -> str:
    words = f"exit code {last.get('exitCode')}"
    reason, message = last.get("reason"), str(last.get("message", "")).strip()
    if reason and reason != "Error":
        words += f", {reason}"
    elif last.get("exitCode") == 137:
        words += ", killed (SIGKILL)"
    return f"{words}: {message}" if message else words


def _recent(last: Mapping[str, Any], now: datetime) -> bool:
    try:
        ended = datetime.fromisoformat(str(last.get("finishedAt", "")))
    except ValueError:
        return False
    return now - ended.replace(tzinfo=ended.tzinfo or UTC) < _RECENT


def end_remedy(stack: Stack, part: str, container: Container, log: str) -> str:
    """What to do about a container that ends or cannot be made."""
    words = f"{container.waiting.get('message', '')} {container.last.get('message', '')} {log}"
    reasons = {container.waiting.get("reason"), container.last.get("reason")}
    again = f"then fleet deploy -s {stack.name}"
    if "OOMKilled" in reasons:
        return f"raise {_MEMORY_KEYS.get(container.name, 'the memory')}, {again}"
    if match := re.search(r'(secret|configmap) "([^"]+)" not found', words):
        return f"the {match[1]} {match[2]} is gone: fleet deploy --refresh -s {stack.name}"
    if match := re.search(r"couldn't find key (\S+) in Secret (\S+)", words):
        return f"the Secret {match[2]} lacks {match[1]}: fleet deploy --refresh -s {stack.name}"
    if "runAsNonRoot" in words:
        return (
            f"the image of {container.name} runs as root, and the pod's security forbids it: set its user in "
            f"the stack file (triton.user, edgeLlm.*.user), {again}"
        )
    return advice(words, _log_command(stack, part, container.name))


def _log_command(stack: Stack, part: str, container: str) -> str:
    if part == labels.GATEWAY:
        return f"{shown(stack)} logs deployment/{labels.of(stack, part)} --container={container}"
    return f"fleet logs {part} -s {stack.name} --part {container}"


def probes(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Probes that fail now, in the kubelet's words, and those by which it has just restarted a container."""
    states = {(each.pod, each.name): each for each in of(stack, part, seen)}
    failing: list[str] = []
    remedies: list[str] = []
    told = set()
    for pod in pods_of(stack, seen, part):
        for event in reversed(seen.events("Pod", pod["metadata"]["name"], "Unhealthy")):
            container = _container_of(event)
            each = states.get((pod["metadata"]["name"], container))
            kind = str(event.get("message", "")).partition(" probe ")[0].lower()
            if each is None or each.ready or not each.running or (each.label, kind) in told:
                continue
            if kind == "startup" and each.started:
                continue
            told.add((each.label, kind))
            count = (event.get("series") or {}).get("count") or event.get("count") or 1
            failing.append(
                f"{each.label}: {str(event['message']).strip()} ({count} times, last at {when(event)})"
            )
            remedies.append(probe_remedy(stack, part, kind, each.name))
    starting = [
        each.label
        for each in states.values()
        if each.running and not each.started and not any(label == each.label for label, _ in told)
    ]
    if failing:
        more = [f"and {len(failing) - _MOST_TOLD} more"] if len(failing) > _MOST_TOLD else []
        return problem("\n".join([*failing[:_MOST_TOLD], *more]), "\n".join(dict.fromkeys(remedies)))
    if starting:
        return warning(
            f"not started yet: {', '.join(starting[:_MOST_TOLD])}",
            f"wait: it has {stack.rollout.ready_timeout_seconds} s (rollout.readyTimeoutSeconds); "
            f"{_log_command(stack, part, starting[0].split()[1])}",
        )
    return ok("none fails")


def _container_of(event: Object) -> str:
    match = re.search(r"\{([^}]+)\}", str(event["involvedObject"].get("fieldPath", "")))
    return match[1] if match else ""


def probe_remedy(stack: Stack, part: str, kind: str, container: str) -> str:
    """What to do about a probe that fails."""
    log = _log_command(stack, part, container)
    if kind == "startup":
        return (
            f"{log} says what it waits for; where it only needs longer, raise rollout.readyTimeoutSeconds "
            f"(now {stack.rollout.ready_timeout_seconds}), then fleet deploy -s {stack.name}"
        )
    if kind == "liveness":
        return f"it hangs, and the kubelet restarts it: {log}"
    return f"see the finding models of {part}; {log}" if part != labels.GATEWAY else log
