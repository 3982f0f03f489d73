"""How an update changes a fleet, as the components take it: `infra.stack.rollout` with Python's names."""

from typing import Any, NotRequired, TypedDict


class Judge(TypedDict):
    """When a node that has changed is bad, by its work. It is compared with nodes that have not changed."""

    seconds: NotRequired[float]
    """How long each task may take for four seconds of speech."""
    agreement: NotRequired[float]
    """The share of words that its transcript of a recording must have in common with theirs; 0: any."""
    slowdown: NotRequired[float]
    """It may be so many times slower than they are."""
    failures: NotRequired[float]
    """Its share of failed requests (HTTP 5xx, gRPC's own) may be so much larger than theirs."""
    requests: NotRequired[int]
    """Requests of a kind from which shares and times count."""


class Rollout(TypedDict):
    """The order in which nodes change, and what must serve meanwhile."""

    canary: NotRequired[int]
    """The number of nodes that change first, one after the other. Nodes that do not answer are the first."""
    batch: NotRequired[Any]
    """Nodes that change together after the canary: a number, or a share of the fleet such as "25%"."""
    min_healthy: NotRequired[Any]
    """Other nodes that must answer before a node is taken down: a number, or a share of the nodes with
    traffic such as "50%"; 0: none. Default: half of them, rounded down, and at least one."""
    unreachable: NotRequired[str]
    """If a host cannot be reached: fail changes nothing, skip updates the other hosts."""
    take_over: NotRequired[bool]
    """If the containers of the original service hold a node's ports: true stops those containers in the
    node's turn, right before its own start. They stay on the host, stopped."""
    on_failure: NotRequired[str]
    """If a changed node does not become healthy, or is bad: stop leaves it, rollBack puts back what the
    changed nodes ran before: image, settings and model versions. Both end the update with an error."""
    ready_timeout_seconds: NotRequired[int]
    """How long a changed node may take until its health route answers 200."""
    soak_seconds: NotRequired[int]
    """How long a canary serves before the next nodes change. Without requests it is five seconds at most."""
    judge: NotRequired[Judge]
    """When a changed node is bad."""
