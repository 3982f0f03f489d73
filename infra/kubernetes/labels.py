"""The names, labels and annotations of a stack's objects in its cluster."""

from typing import Any

from infra import names
from infra.stack import Stack
from infra.stack.pools import Pool

Manifest = dict[str, Any]

#: What tells the pods of a stack's parts apart; Services, policies and monitors select by them.
STACK, COMPONENT, POOL = "app.kubernetes.io/instance", "app.kubernetes.io/component", "gpu-inference/pool"
#: The components.
NODE, GATEWAY = "node", names.GATEWAY
#: A pool's two Deployments: the pods that change first, and the others.
TRACK, CANARY, STABLE = "gpu-inference/track", "canary", "stable"
#: A pod that has it gets requests; an update takes it from a pod that is bad.
TRAFFIC, ON, OFF = "gpu-inference/traffic", "on", "off"
#: An annotation of pods: another value starts the pods anew.
MODELS = "gpu-inference/models"
#: The annotation of pods that says which template they are of, for the judgement of an update.
REVISION = "gpu-inference/revision"
#: The annotation of a Deployment whose pods an update that failed put back, with the time; and that of the
#: update that sets it again since.
ROLLED_BACK, AGAIN = "gpu-inference/rolled-back", "gpu-inference/again-after"

#: An update sets again what somebody changed by hand (`kubectl scale`); else the API server refuses it.
_TAKES_BACK = {"pulumi.com/patchForce": "true"}


def of_stack(stack: Stack) -> dict[str, str]:
    """The label by which all objects of a stack are selected."""
    return {STACK: stack.name}


def of_pool(stack: Stack, pool: Pool) -> dict[str, str]:
    """The labels by which a pool's pods are selected."""
    return {STACK: stack.name, COMPONENT: NODE, POOL: pool.name}


def of_track(stack: Stack, pool: Pool, track: str) -> dict[str, str]:
    """The labels by which the pods of one of a pool's Deployments are selected."""
    return {**of_pool(stack, pool), TRACK: track}


def of_nodes(stack: Stack) -> dict[str, str]:
    """The labels by which the pods of all pools are selected."""
    return {STACK: stack.name, COMPONENT: NODE}


def of_gateway(stack: Stack) -> dict[str, str]:
    """The labels by which the gateway's pods are selected."""
    return {STACK: stack.name, COMPONENT: GATEWAY}


def of_object(selecting: dict[str, str]) -> dict[str, str]:
    """The labels of an object and its pods: those that select, and those for people and tools."""
    return {
        **selecting,
        "app.kubernetes.io/name": "gpu-inference",
        "app.kubernetes.io/part-of": "gpu-inference-fleet",
        "app.kubernetes.io/managed-by": "pulumi",
    }


def metadata(
    stack: Stack, name: str, selecting: dict[str, str], annotations: dict[str, str] | None = None
) -> Manifest:
    """The metadata of an object."""
    made: Manifest = {
        "name": name,
        "namespace": stack.kubernetes.namespace,
        "labels": of_object(selecting),
    }
    made["annotations"] = dict(sorted({**_TAKES_BACK, **(annotations or {})}.items()))
    return made


def of(stack: Stack, part: str, suffix: str = "") -> str:
    """The name of an object of a pool, or of `GATEWAY`, by name."""
    return names.service(stack.name, part) + (f"-{suffix}" if suffix else "")
