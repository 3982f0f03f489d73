"""Runs checks concurrently, each after the checks that it needs and within its own time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field

from infra.doctor.findings import BECAUSE, Failed, Finding, Outcome, Status, problem, skipped

#: The limit of a check that sets no other.
SECONDS = 8.0


@dataclass(eq=False)
class Check:
    """One check of one node, host or gateway.

    `checked` names what it looks at. `needs`: checks that must pass, else this one is skipped. `after`:
    checks to wait for, passed or not, because this one uses their results if there are any. `seconds` is its
    limit.
    """

    where: tuple[str, ...]
    name: str
    checked: str
    ask: Callable[[], Awaitable[Outcome]]
    seconds: float = SECONDS
    needs: Sequence[Check] = ()
    after: Sequence[Check] = ()
    finding: Finding | None = field(default=None, init=False, repr=False)


async def run(checks: Sequence[Check]) -> list[Finding]:
    """Run `checks` and return their findings in the same order.

    A check stands after those in its `needs` and `after`; the `needs` must be among `checks`.
    """
    tasks: dict[Check, asyncio.Task[Finding]] = {}
    async with asyncio.TaskGroup() as group:
        for check in checks:
            earlier = [tasks[other] for other in (*check.needs, *check.after) if other in tasks]
            tasks[check] = group.create_task(_run_one(check, earlier))
    return [task.result() for task in tasks.values()]


async def _run_one(check: Check, earlier: Sequence[asyncio.Task[Finding]]) -> Finding:
    await asyncio.gather(*earlier)
    begin = time.monotonic()
    outcome = _skipped(check) or await _asked(check)
    seconds = time.monotonic() - begin
    check.finding = Finding(check.where, check.name, check.checked, **asdict(outcome), seconds=seconds)
    return check.finding


async def _asked(check: Check) -> Outcome:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.ask()
    except Failed as failed:
        return failed.outcome
    except TimeoutError:
        return problem(
            f"no answer within {check.seconds:g} s",
            f"a program there hangs, or the network loses packets; try it there: {check.checked}",
        )
    except (OSError, ValueError, LookupError) as error:
        # Hosts may print anything, and one with odd output must not hide the findings of the others.
        return problem(f"unexpected output: {error!r}", f"look at the output on the host: {check.checked}")


def _skipped(check: Check) -> Outcome | None:
    """The outcome of a check that cannot run. It names the first failures, not what follows from them."""
    causes: dict[str, None] = {}
    for needed in check.needs:
        finding = needed.finding
        assert finding is not None
        if finding.status is Status.SKIPPED:
            causes |= dict.fromkeys(finding.seen.removeprefix(BECAUSE).split(", "))
        elif finding.status is Status.PROBLEM:
            causes[needed.name] = None
    return skipped(causes) if causes else None


def chosen(checks: Sequence[Check], names: Collection[str]) -> list[Check]:
    """The checks that concern one of the nodes of these names, and all that they need."""
    wanted: set[Check] = set()
    for check in reversed(checks):  # a check stands after those that it needs
        if check in wanted or set(check.where) & set(names):
            wanted |= {check, *check.needs}
    return [check for check in checks if check in wanted]
