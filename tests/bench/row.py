"""A line of the benchmarks' table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table. `goal` is the value to reach, in the direction `better`. A row without a goal is
    for comparison."""

    name: str
    measured: str
    value: float
    goal: float | None
    better: str  # "more" or "less"

    @property
    def reached(self) -> bool:
        if self.goal is None:
            return True
        return self.value >= self.goal if self.better == "more" else self.value <= self.goal
