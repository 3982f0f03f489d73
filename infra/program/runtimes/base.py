"""What a runtime's containers are given by their node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pulumi

from infra.stack import Node, Stack

if TYPE_CHECKING:
    from infra.program.host import Host
    from infra.program.node import PreparedNode


@dataclass(frozen=True)
class Place:
    """Where a runtime's containers go: what was prepared for them, their parent, and what they wait for."""

    prepared: PreparedNode
    parent: pulumi.Resource
    needs: list[pulumi.Resource]

    @property
    def stack(self) -> Stack:
        """The fleet's settings."""
        return self.prepared.args.stack

    @property
    def node(self) -> Node:
        """The node's settings."""
        return self.prepared.args.node

    @property
    def host(self) -> Host:
        """The node's host."""
        return self.prepared.args.host
