"""The order in which nodes change: canaries one by one, then batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import pulumi
from pulumi.resource import DependencyResource

from infra.stack import Rollout

T = TypeVar("T")


def batches(nodes: Sequence[T], rollout: Rollout) -> list[list[T]]:
    """The nodes in batches; the next batch begins when every node of the one before is healthy.

    A share is of the whole fleet, rounded down, and at least one node.
    """
    canaries = [[node] for node in nodes[: rollout.canary]]
    rest = nodes[rollout.canary :]
    size = batch_size(len(nodes), rollout.batch)
    return canaries + [list(rest[start : start + size]) for start in range(0, len(rest), size)]


def batch_size(nodes: int, batch: int | str) -> int:
    """How many of so many nodes change at a time."""
    if isinstance(batch, str):
        return max(1, math.floor(nodes * int(batch.removesuffix("%")) / 100))
    return batch


class Finished(DependencyResource):
    """A resource as something to wait for, without what it waited for itself.

    For every dependency that is declared, Pulumi's SDK searches all that lies before it for a circle. Along
    the chain of a rollout, which has none, that is the work of the fleet's size to the third power; here the
    search ends. The engine is told of the same dependency.
    """

    def __init__(self, resource: pulumi.Resource) -> None:
        super().__init__("")
        self.__dict__["urn"] = resource.urn
