"""Checks hosts and nodes before an update, and decides which hosts it leaves as they are."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra import node_health
from infra.connection import portable
from infra.stack import Host, Stack
from infra.update import disks, preflight, state, written
from infra.update.disks import Need
from infra.update.preflight import HostCheck
from infra.update.questions import Answers, ask
from infra.update.written import Written

#: How long a node that answers may take. Longer for none: an update that changes nothing waits for it.
_ANSWER_SECONDS = 5
#: How long a host may take to say what steps wrote there. A preview waits as long for hosts that are down.
_READ_SECONDS, _PREVIEW_SECONDS = 20.0, 4.0


class CannotUpdate(Exception):
    """The update must not begin; `str(error)` names every host that fails, its reason and its remedy."""


@dataclass(frozen=True)
class Away:
    """The hosts that cannot be reached and stay as they are, and the resources in the stack's state."""

    hosts: frozenset[Host] = frozenset()
    nodes: tuple[str, ...] = ()
    resources: Sequence[dict[str, Any]] = field(default=(), repr=False)


@dataclass(frozen=True)
class Found:
    """What an update finds: the hosts that it leaves as they are, the names of the nodes on the others that
    neither answer nor start, new ones among them, and what is not as steps wrote it."""

    away: Away = field(default_factory=Away)
    sick: frozenset[str] = frozenset()
    written: Written = field(default_factory=Written)


def prepare(stack: Stack) -> Found:
    """Checks every host, then every node on those that can be reached.

    A preview checks none of them. It reads what steps wrote, on hosts that answer soon. Raises CannotUpdate.
    """
    checks = preflight.checks(stack)
    if not checks:
        return Found()
    if pulumi.runtime.is_dry_run():
        found = written.read(stack, _PREVIEW_SECONDS)
        _report(found)
        return Found(sick=found.without_folders, written=found)
    away = _away(stack, checks)
    asked = written.questions(stack, away.hosts)
    needs = disks.needs(stack, away.hosts)
    for host, there in needs.items():
        asked.setdefault(host, []).append(disks.question(there))
    with ThreadPoolExecutor(max_workers=1) as pool:
        asking = pool.submit(ask, asked, portable(stack.ssh), _READ_SECONDS)
        sick = _sick(stack, away)
        answers = asking.result()
    found = written.written(stack, answers)
    _report(found)
    _check_disks(stack, needs, answers)
    return Found(away, sick | found.without_folders, found)


def _check_disks(stack: Stack, needs: Mapping[Host, Sequence[Need]], answers: Answers) -> None:
    """Raises CannotUpdate where a disk is too full; the answer is the last one of each host."""
    full = [
        each
        for host, said in answers.said.items()
        if host in needs
        for each in disks.parsed(host, needs[host], said[-1], stack.images.platform)
    ]
    if full:
        lines = "".join(f"\n  {each}" for each in full)
        raise CannotUpdate(
            f"nothing was changed, because of full disks:{lines}\n"
            "    remove what is not needed there (docker image prune), or name another folder for models: "
            "gpu-inference:remoteDir"
        )


def _report(written: Written) -> None:
    if lines := written.lines():
        said = "".join(f"\n  {line}" for line in lines)
        pulumi.log.warn(f"not as the last update left it; an update repairs it:{said}")
    if written.unread:
        said = "".join(f"\n  {host}: {reason}" for host, reason in written.unread.items())
        pulumi.log.info(f"not known is what somebody changed by hand on these hosts:{said}")


def _sick(stack: Stack, away: Away) -> frozenset[str]:
    ssh = portable(stack.ssh)
    near = [node for node in stack.nodes if not node.embedded and node.host not in away.hosts]
    reasons = node_health.sick((node_health.address(stack, node, ssh) for node in near), _ANSWER_SECONDS)
    deployed = {name: reason for name, reason in reasons.items() if "No such container" not in reason}
    if deployed:
        said = "".join(f"\n  {name}: {reason}" for name, reason in sorted(deployed.items()))
        pulumi.log.warn(f"these nodes change first, and their containers are replaced:{said}")
    return frozenset(reasons)


def _away(stack: Stack, checks: Sequence[HostCheck]) -> Away:
    failures = preflight.probe_all(checks, portable(stack.ssh))
    unfit = [failure for failure in failures if failure.reachable]
    away = [failure for failure in failures if not failure.reachable]
    if unfit or (away and stack.rollout.unreachable == "fail"):
        hint = ""
        if away and not unfit:
            hint = "\nTo update the others now: gpu-inference:rollout: {unreachable: skip}"
        raise CannotUpdate(f"nothing was changed, because of:\n{preflight.report(failures)}{hint}")
    if not away:
        return Away()
    try:
        deployment = state.export(stack.name)
    except state.StateError as error:
        raise CannotUpdate(f"nothing was changed: {error}") from None
    hosts = frozenset(failure.host for failure in away)
    pulumi.log.warn(
        f"left as they are, because they cannot be reached:\n{preflight.report(away)}\n"
        "  Their nodes get no traffic. The next update that reaches them updates them."
    )
    names = tuple(node.name for node in stack.nodes if node.host in hosts)
    return Away(hosts, names, deployment.get("resources", []))
