"""What a check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a check ended.

    `problem`: something does not work. `warning`: it works, and will not for long or not as declared.
    `skipped`: it could not be asked because an earlier check failed.
    """

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check saw, in the words of what it asked, and the remedy: a command or a setting."""

    status: Status
    seen: str
    remedy: str = ""


def ok(seen: str) -> Outcome:
    """All is as it should be."""
    return Outcome(Status.OK, seen)


def warning(seen: str, remedy: str) -> Outcome:
    """It works, and will not for long or not as declared."""
    return Outcome(Status.WARNING, seen, remedy)


def problem(seen: str, remedy: str) -> Outcome:
    """It does not work."""
    return Outcome(Status.PROBLEM, seen, remedy)


def worst(outcomes: Iterable[Outcome], otherwise: str) -> Outcome:
    """Several outcomes of one check as one: all that is wrong, or `otherwise` when nothing is."""
    bad = [outcome for outcome in outcomes if outcome.status is not Status.OK]
    if not bad:
        return ok(otherwise)
    status = Status.PROBLEM if any(each.status is Status.PROBLEM for each in bad) else Status.WARNING
    remedies = dict.fromkeys(each.remedy for each in bad if each.remedy)
    return Outcome(status, "\n".join(each.seen for each in bad), "\n".join(remedies))


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result. `where` has the names of the nodes that it concerns, `gateway` among them."""

    where: tuple[str, ...]
    check: str
    checked: str
    status: Status
    seen: str
    remedy: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """The finding as `--json` prints it."""
        return {**asdict(self), "where": list(self.where), "seconds": round(self.seconds, 3)}
