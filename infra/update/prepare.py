"""What is asked before anything is declared, when an update is about to change hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

import pulumi

from infra.program.host import portable
from infra.stack import Host, Stack
from infra.update import interrupted, preflight, state


class CannotUpdate(Exception):
    """The update must not begin; `str(error)` names every host in the way, the reason and the remedy."""


@dataclass(frozen=True)
class Away:
    """The hosts that are left as they stand in the state, and what of the stack is in it."""

    hosts: frozenset[Host] = frozenset()
    nodes: tuple[str, ...] = ()
    deployed: state.Deployed | None = field(default=None, repr=False)

    def of(self, host: Host) -> state.Deployed | None:
        """What is deployed, for a host that is left alone; None for one that is updated."""
        return self.deployed if host in self.hosts else None


def prepare(stack: Stack) -> Away:
    """Asks every host, clears what a killed update left, and says which hosts the update leaves alone.

    A preview asks nobody. Raises CannotUpdate.
    """
    checks = preflight.checks(stack)
    if pulumi.runtime.is_dry_run() or not checks:
        return Away()
    failures = preflight.probe_all(checks, portable(stack.ssh))
    lacking = [failure for failure in failures if failure.reachable]
    away = [failure for failure in failures if not failure.reachable]
    if lacking or (away and stack.rollout.unreachable == "fail"):
        hint = ""
        if away and not lacking:
            hint = "\nTo update the others now: gpu-inference:rollout: {unreachable: skip}"
        raise CannotUpdate(f"nothing was changed, because of:\n{preflight.report(failures)}{hint}")
    try:
        deployment = state.export(stack.name)
        said = interrupted.clear(deployment)
    except (state.StateError, RuntimeError) as error:
        raise CannotUpdate(f"nothing was changed: {error}") from None
    for sentence in said:
        pulumi.log.warn(sentence)
    if not away:
        return Away()
    hosts = frozenset(failure.host for failure in away)
    pulumi.log.warn(
        f"left as they are, because they cannot be reached:\n{preflight.report(away)}\n"
        "  Their nodes get no traffic; when they are back, the next update brings them level."
    )
    names = tuple(node.name for node in stack.nodes if node.host in hosts)
    return Away(hosts, names, state.Deployed(deployment))
