"""The benchmarks' table, and a line of it."""

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


def show(rows: list[Row]) -> None:
    """Print the table."""
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'measured':36} {'value':>8} {'goal':>8}")
    for row in rows:
        line = f"{row.name:{width}}  {row.measured:36} {row.value:8.2f}"
        if row.goal is not None:
            line += f" {'>=' if row.better == 'more' else '<='}{row.goal:6.2f}"
        print(line if row.reached else f"{line}  not reached")
