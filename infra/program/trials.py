"""The trial of a node as a resource: after it is healthy, it must do its work before the next nodes change.

A resource hook tries the node, as it compares it with nodes about which the resource knows nothing. The
resource is there only after the trial, so the next update tries a node again that was found bad.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_command as command

from infra.program.host import Host
from infra.program.way_back import WayBackHooks
from infra.update.trials import Bad, Trials

_SUFFIX = "-tried"


class TrialHooks:
    """The hook of all trials of an update of the fleet `stack`; a program may have several fleets."""

    def __init__(self, trials: Trials, stack: str, way_back: WayBackHooks | None) -> None:
        self._trials, self._way_back = trials, way_back
        #: For the resource of `trial`.
        self.before = pulumi.ResourceHookBinding(
            before_create=[pulumi.ResourceHook(f"trial@{stack}", self._hold)]
        )

    async def _hold(self, args: pulumi.ResourceHookArgs) -> None:
        node = args.name.partition("@")[0].removesuffix(_SUFFIX)
        try:
            await asyncio.to_thread(self._trials.hold, node)
        except Bad as error:
            now = "" if self._way_back is None else f"\nrolled back:\n{await self._way_back.undo(node)}"
            raise RuntimeError(f"{error}{now}") from None


def trial(
    name: str,
    host: Host,
    hooks: TrialHooks,
    triggers: list[Any],
    *,
    parent: pulumi.Resource,
    needs: Sequence[pulumi.Resource],
) -> pulumi.Resource:
    """Declares the trial of a node; it is another one whenever one of `triggers` is."""
    return host.declare(
        command.local.Command,
        f"{name}{_SUFFIX}",
        parent=parent,
        needs=needs,
        hooks=[hooks.before],
        before_0_1=False,
        create=f"echo node {name} does its work",
        triggers=triggers,
    )
