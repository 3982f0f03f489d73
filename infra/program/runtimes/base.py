"""What a runtime's containers are given by their node."""

from __future__ import annotations

from dataclasses import dataclass, field

import pulumi

from infra.program.host import DockerHost
from infra.program.images import Images
from infra.program.models import NodeModels
from infra.stack import Node, Stack


@dataclass(frozen=True)
class Place:
    """Where a runtime's containers go, and what must be there before them.

    `shared_memory` is the volume that is /dev/shm for Triton and the service.
    """

    stack: Stack
    node: Node
    host: DockerHost
    images: Images
    models: NodeModels
    parent: pulumi.Resource
    network: str
    shared_memory: str
    needs: list[pulumi.Resource | None] = field(default_factory=list)
