"""How an update changes a fleet: the order of its nodes, and what must serve meanwhile."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from infra.stack.section import Section
from infra.stack.values import Batch, MinHealthy, Positive, off


class Judge(Section):
    """When a node that has changed is bad, by its work. It is compared with nodes that have not changed."""

    seconds: Positive = 30
    """How long each task may take for four seconds of speech."""
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The share of words that its transcript of a recording must have in common with theirs; 0: any."""
    slowdown: Annotated[float, Field(gt=1)] = 3
    """It may be so many times slower than they are."""
    failures: Annotated[float, Field(gt=0, le=1)] = 0.05
    """Its share of failed requests (HTTP 5xx, gRPC's own) may be so much larger than theirs."""
    requests: Annotated[int, Field(ge=1)] = 20
    """Requests of a kind from which shares and times count."""


class Rollout(Section):
    """The order in which nodes change, and what must serve meanwhile."""

    canary: Annotated[int, Field(ge=0)] = 1
    """The number of nodes that change first, one after the other. Nodes that do not answer are the first.
    In a cluster: of each pool's pods, and never all of them."""
    batch: Batch = 1
    """Nodes that change together after the canary: a number, or a share of the fleet such as "25%"."""
    min_healthy: MinHealthy | None = None
    """Other nodes that must answer before a node is taken down: a number, or a share of the nodes with
    traffic such as "50%"; 0: none. Default: half of them, rounded down, and at least one."""
    unreachable: Literal["fail", "skip"] = "fail"
    """If a host cannot be reached: fail changes nothing, skip updates the other hosts."""
    take_over: bool = False
    """If the containers of the original service hold a node's ports: false changes nothing, true stops those
    containers in the node's turn, right before its own start. They stay on the host, stopped."""
    on_failure: Literal["stop", "rollBack"] = "rollBack"
    """If a changed node does not become healthy, or is bad: stop leaves it, rollBack puts back what the
    changed nodes ran before: image, settings and model versions. Both end the update with an error."""
    ready_timeout_seconds: Annotated[int, Field(ge=1, le=7200)] = 300
    """How long a changed node may take until its health route answers 200."""
    soak_seconds: Annotated[int, Field(ge=0, le=86400)] = 30
    """How long a canary serves before the next nodes change. Without requests it is five seconds at most."""
    judge: Annotated[Judge | None, BeforeValidator(off)] = Field(default_factory=Judge)
    """When a changed node is bad; false: no node is judged."""

    def batch_size(self, nodes: int) -> int:
        """How many of so many nodes change at a time. A share is rounded down, and at least one node."""
        if isinstance(self.batch, str):
            return max(1, math.floor(nodes * int(self.batch.removesuffix("%")) / 100))
        return self.batch

    def needed(self, nodes: int) -> int:
        """How many of the other nodes must answer before one of so many nodes with traffic is taken down.

        Never more than there are: the last node of a fleet changes with a gap.
        """
        share = self.min_healthy
        if share is None:
            wanted = max(1, nodes // 2)
        elif isinstance(share, str):
            wanted = math.floor(nodes * int(share.removesuffix("%")) / 100)
        else:
            wanted = share
        return min(wanted, max(nodes - 1, 0))
