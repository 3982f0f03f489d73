"""Checks the hosts before an update, and decides which of them it leaves as they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra.connection import portable
from infra.stack import Host, Stack
from infra.update import preflight, state


class CannotUpdate(Exception):
    """The update must not begin; `str(error)` names every host that fails, its reason and its remedy."""


@dataclass(frozen=True)
class Away:
    """The hosts that cannot be reached and stay as they are, and the resources in the stack's state."""

    hosts: frozenset[Host] = frozenset()
    nodes: tuple[str, ...] = ()
    resources: Sequence[dict[str, Any]] = field(default=(), repr=False)


def prepare(stack: Stack) -> Away:
    """Check every host, and return those that the update leaves as they are.

    A preview contacts no host. Raises CannotUpdate.
    """
    checks = preflight.checks(stack)
    if pulumi.runtime.is_dry_run() or not checks:
        return Away()
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
