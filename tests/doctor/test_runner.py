"""Checks run in parallel, after the checks that they need, and within their time limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from infra.doctor.findings import Finding, Outcome, Status, ok, problem, warning, worst
from infra.doctor.runner import Check, chosen, run

pytestmark = pytest.mark.fast

WELL = ok("well")


def check(
    name: str,
    outcome: Outcome | Callable[[], Awaitable[Outcome]] = WELL,
    *,
    where: str = "gpu-1",
    needs: Sequence[Check] = (),
    after: Sequence[Check] = (),
    seconds: float = 5,
) -> Check:
    async def ask() -> Outcome:
        return outcome if isinstance(outcome, Outcome) else await outcome()

    return Check((where,), name, f"how {name} is", ask, seconds=seconds, needs=needs, after=after)


async def findings(*checks: Check) -> list[Finding]:
    return await run(checks)


async def test_a_finding_has_what_was_asked_seen_and_what_to_do() -> None:
    (finding,) = await findings(check("docker", problem("permission denied", "join the group docker")))
    assert (finding.where, finding.check, finding.checked) == (("gpu-1",), "docker", "how docker is")
    assert (finding.status, finding.seen, finding.remedy) == (
        Status.PROBLEM,
        "permission denied",
        "join the group docker",
    )


async def test_a_check_whose_need_failed_is_skipped_and_names_the_first_failure() -> None:
    ssh = check("ssh", problem("refused", "start sshd"))
    docker = check("docker", needs=[ssh])
    triton = check("triton", needs=[docker])
    results = await findings(ssh, docker, triton)
    assert [each.status for each in results] == [Status.PROBLEM, Status.SKIPPED, Status.SKIPPED]
    assert results[2].seen == "because of: ssh"


async def test_a_check_after_one_that_failed_runs_all_the_same() -> None:
    first = check("folder", problem("empty", "fill it"))
    assert (await findings(first, check("service", after=[first])))[1].status is Status.OK


async def test_a_warning_stops_nothing() -> None:
    first = check("disk", warning("small", "tidy up"))
    assert (await findings(first, check("models", needs=[first])))[1].status is Status.OK


async def test_a_check_that_hangs_is_ended_at_its_limit_and_stops_no_other() -> None:
    async def forever() -> Outcome:
        await asyncio.sleep(60)
        return ok("never")

    begin = time.monotonic()
    hung, well = await findings(check("nvidia-smi", forever, seconds=0.1), check("disk"))
    assert time.monotonic() - begin < 30
    assert hung.status is Status.PROBLEM
    assert hung.seen == "no answer within 0.1 s"
    assert well.status is Status.OK


async def test_an_answer_that_is_not_understood_is_a_finding_and_stops_no_other() -> None:
    async def odd() -> Outcome:
        return ok(str(int("lots of space")))

    strange, well = await findings(check("disk", odd), check("clock"))
    assert strange.status is Status.PROBLEM
    assert "lots of space" in strange.seen
    assert well.status is Status.OK


async def test_checks_run_side_by_side() -> None:
    everybody = asyncio.Barrier(50)

    async def together() -> Outcome:
        await everybody.wait()
        return ok("well")

    results = await findings(*[check(f"check {number}", together) for number in range(50)])
    assert {finding.status for finding in results} == {Status.OK}


async def test_each_finding_is_there_as_soon_as_its_check_ends() -> None:
    async def look() -> Outcome:
        assert first.finding is not None and second.finding is None
        return WELL

    first = check("first")
    second = check("second", look, after=[first])
    assert [each.status for each in await findings(first, second)] == [Status.OK, Status.OK]
    assert second.finding is not None


async def test_choosing_a_node_takes_what_its_checks_need_along() -> None:
    gateway = check("gateway ssh", where="gateway")
    clocks = check("ssh", where="gpu-2")
    mine = check("upstream", needs=[gateway], after=[clocks])
    other = check("triton", where="gpu-2")
    assert chosen([gateway, clocks, mine, other], ["gpu-1"]) == [gateway, mine]
    assert len(await run(chosen([gateway, clocks, mine, other], ["gpu-1"]))) == 2


def test_several_outcomes_are_as_bad_as_the_worst_and_say_all() -> None:
    both = worst([warning("a", "mend a"), ok("b"), problem("c", "mend c"), problem("d", "mend c")], "well")
    assert both == Outcome(Status.PROBLEM, "a\nc\nd", "mend a\nmend c")
    assert worst([ok("a")], "all well") == ok("all well")
