"""Runs checks side by side, each after those that it needs, each within its own time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from infra.doctor.findings import Finding, Outcome, Status

Report = Callable[[Finding], None]


@dataclass(eq=False)
class Check:
    """One question to one place.

    `checked` says what is asked, `needs` are the checks without whose success it makes no sense, `after`
    those that it only waits for, because they find out something that it uses where it is there.
    """

    where: tuple[str, ...]
    name: str
    checked: str
    ask: Callable[[], Awaitable[Outcome]]
    seconds: float = 8.0
    needs: Sequence[Check] = ()
    after: Sequence[Check] = ()
    finding: Finding | None = field(default=None, init=False, repr=False)


async def run(checks: Sequence[Check], report: Report = lambda finding: None) -> list[Finding]:
    """The findings of `checks`, in their order; `report` is told each as it comes.

    A check comes after those that it names in `needs` and `after`. What it needs is among `checks`.
    """
    tasks: dict[Check, asyncio.Task[Finding]] = {}
    async with asyncio.TaskGroup() as group:
        for check in checks:
            earlier = [tasks[other] for other in (*check.needs, *check.after) if other in tasks]
            tasks[check] = group.create_task(_run_one(check, earlier, report))
    return [task.result() for task in tasks.values()]


async def _run_one(check: Check, earlier: Sequence[asyncio.Task[Finding]], report: Report) -> Finding:
    await asyncio.gather(*earlier)
    begin = time.monotonic()
    outcome = _skipped(check) or await _asked(check)
    check.finding = Finding(
        check.where,
        check.name,
        check.checked,
        outcome.status,
        outcome.seen,
        outcome.remedy,
        time.monotonic() - begin,
    )
    report(check.finding)
    return check.finding


async def _asked(check: Check) -> Outcome:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.ask()
    except TimeoutError:
        return Outcome(
            Status.PROBLEM,
            f"no answer within {check.seconds:g} s",
            f"something there hangs, or the network loses packets; try it there: {check.checked}",
        )
    except (OSError, ValueError, LookupError) as error:
        # What a host prints is nothing to rely on, and one odd host must not hide what the others have.
        return Outcome(
            Status.PROBLEM,
            f"what came back was not understood: {error!r}",
            f"see what it says there: {check.checked}",
        )


def _skipped(check: Check) -> Outcome | None:
    """Why the check cannot run: the first failures, not those that only follow from them."""
    causes: dict[str, None] = {}
    for needed in check.needs:
        found = needed.finding
        assert found is not None
        if found.status is Status.SKIPPED:
            causes |= dict.fromkeys(found.seen.removeprefix("because of: ").split(", "))
        elif found.status is Status.PROBLEM:
            causes[needed.name] = None
    return Outcome(Status.SKIPPED, f"because of: {', '.join(causes)}") if causes else None


def chosen(checks: Sequence[Check], names: Collection[str]) -> list[Check]:
    """Those of `checks` that concern one of these nodes, and what they need."""
    wanted = {check for check in checks if set(check.where) & set(names)}
    waiting = list(wanted)
    while waiting:
        more = [needed for needed in waiting.pop().needs if needed not in wanted]
        wanted.update(more)
        waiting += more
    return [check for check in checks if check in wanted]
