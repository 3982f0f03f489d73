"""Runs a step again when what it wrote is not on its host any more.

The differences are a variable of the step, so that a preview shows them. An update that finds some changes
the variable. Any other one leaves it as it is in the state, so the update after a repair changes nothing.
"""

import uuid
from collections.abc import Sequence

import pulumi

_VARIABLE = "DIFFERENCE"

Variables = dict[str, pulumi.Input[str]]


def environment(reasons: Sequence[str], others: Variables | None = None) -> Variables | None:
    """The step's variables: those that it has anyway, and the differences.

    These get what tells them from equal ones in the past.
    """
    if reasons:
        return {**(others or {}), _VARIABLE: f"{'; '.join(reasons)} ({uuid.uuid4().hex[:8]})"}
    # The engine ignores a variable only where it sees a place for it.
    return {**others, _VARIABLE: ""} if others else None


def ignored(reasons: Sequence[str], others: Variables | None = None) -> list[str]:
    """The step's `ignore_changes`, for the same arguments."""
    if reasons:
        return []
    return [f"environment.{_VARIABLE}" if others else "environment"]
