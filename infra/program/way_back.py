"""The hooks of the way back: they keep what nodes run, and put it back when a change fails."""

import asyncio
import subprocess

import pulumi

from infra import names
from infra.connection import RemoteError
from infra.update.way_back import WayBack

_SUFFIXES = ("-models-in-use", "-ready", *(f"-{part}" for part in names.NODE_PARTS))


class WayBackHooks:
    """The hooks of the way back of the fleet `stack`; a program may have several fleets."""

    def __init__(self, way_back: WayBack, stack: str) -> None:
        self._way_back = way_back
        remember = pulumi.ResourceHook(f"remember@{stack}", self._remember)
        failed = pulumi.ErrorHook(f"roll-back@{stack}", self._failed)
        #: For the step that switches a node's models, which may be all that changes.
        self.models = pulumi.ResourceHookBinding(
            before_create=[remember], before_update=[remember], on_error=[failed]
        )
        #: For containers, and for the step that waits until the node is healthy.
        self.failing = pulumi.ResourceHookBinding(on_error=[failed])

    async def remember(self, node: str) -> None:
        """Keeps what a node runs."""
        try:
            await asyncio.to_thread(self._way_back.remember, node)
        except (RemoteError, subprocess.TimeoutExpired, ValueError) as error:
            pulumi.log.warn(f"node {node} will have no way back: {error}")

    async def undo(self, node: str) -> str:
        """Puts back what the changed nodes ran, because this one failed; returns what runs now."""
        return await asyncio.to_thread(self._way_back.undo, node)

    async def _remember(self, args: pulumi.ResourceHookArgs) -> None:
        await self.remember(_node_of(args.name))

    async def _failed(self, args: pulumi.ErrorHookArgs) -> bool:
        pulumi.log.warn(f"the update failed and is rolled back:\n{await self.undo(_node_of(args.name))}")
        return False


def _node_of(resource: str) -> str:
    """The node that a resource of it belongs to, by the resource's name."""
    name = resource.partition("@")[0]
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
