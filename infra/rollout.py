"""The order in which nodes change: canaries one by one, then batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from infra.stack.types import Rollout

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
