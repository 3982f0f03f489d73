"""The result of a check."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

#: How the text of a skipped check begins; the names of the checks that failed follow.
BECAUSE = "because of: "


class Status(StrEnum):
    """How a check ended.

    `problem`: something does not work. `warning`: it works now, but will soon fail or differs from the stack
    file. `skipped`: the check did not run because an earlier one failed.
    """

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check saw, in the words of the program it asked, and the remedy: a command or a setting."""

    status: Status
    seen: str
    remedy: str = ""


class Failed(Exception):
    """Ends a check with this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.seen)
        self.outcome = outcome


def skipped(causes: Iterable[str]) -> Outcome:
    """The check did not run because of these earlier checks, given by name."""
    return Outcome(Status.SKIPPED, f"{BECAUSE}{', '.join(causes)}")


#: Everything is as it should be: `ok(seen)`.
ok = partial(Outcome, Status.OK)
#: It works now, but will soon fail or differs from the stack file: `warning(seen, remedy)`.
warning = partial(Outcome, Status.WARNING)
#: It does not work: `problem(seen, remedy)`.
problem = partial(Outcome, Status.PROBLEM)


def worst(outcomes: Iterable[Outcome], otherwise: str) -> Outcome:
    """Several outcomes of one check as one: everything that is wrong, or `otherwise` when nothing is."""
    bad = [outcome for outcome in outcomes if outcome.status is not Status.OK]
    if not bad:
        return ok(otherwise)
    status = Status.PROBLEM if any(each.status is Status.PROBLEM for each in bad) else Status.WARNING
    remedies = dict.fromkeys(each.remedy for each in bad if each.remedy)
    return Outcome(status, "\n".join(each.seen for each in bad), "\n".join(remedies))


@dataclass(frozen=True, slots=True)
class Finding:
    """A check's result. `where` names the nodes that it concerns; the gateway is `gateway`."""

    where: tuple[str, ...]
    check: str
    checked: str
    status: Status
    seen: str
    remedy: str
    seconds: float
