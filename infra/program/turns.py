"""The turn of a node as a resource: before its containers change, enough other nodes must serve.

A resource hook decides, so it sees the fleet at that moment. Hooks on the containers themselves would come
too late (a container is deleted before its successor is created) or keep `pulumi destroy` from working (the
engine refuses hooks on deletions without `--run-program`).
"""

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pulumi
import pulumi_command as command

from infra.connection import RemoteError
from infra.digest import digest
from infra.program.host import Host
from infra.program.way_back import WayBackHooks
from infra.update import state
from infra.update.turns import NotEnough, Turns

_SUFFIX, _READY = "-turn", "-ready"
# What a node's readiness step prints at the end.
_HEALTHY_AFTER = re.compile(r"healthy after (\d+) s")


class TurnHooks:
    """The hooks of all turns of an update of the fleet `stack`; a program may have several fleets."""

    def __init__(self, turns: Turns, stack: str, way_back: WayBackHooks | None) -> None:
        self._turns, self._way_back = turns, way_back
        also_in_previews = pulumi.ResourceHookOptions(on_dry_run=True)
        take = pulumi.ResourceHook(f"turn@{stack}", self._take, also_in_previews)
        finish = pulumi.ResourceHook(f"turn-ends@{stack}", self._finish)
        #: For the resource of `turn`.
        self.before = pulumi.ResourceHookBinding(before_create=[take])
        #: For the step that waits until the node is healthy.
        self.after = pulumi.ResourceHookBinding(after_create=[finish], after_update=[finish])

    async def _take(self, args: pulumi.ResourceHookArgs) -> None:
        node = args.name.partition("@")[0].removesuffix(_SUFFIX)
        if pulumi.runtime.is_dry_run():
            if self._turns.lone and (
                last := await asyncio.to_thread(_last_time, pulumi.get_stack(), args.urn)
            ):
                pulumi.log.warn(f"{_gap(node)}. {last}")
            return
        try:
            gap = await asyncio.to_thread(self._turns.take, node)
            if gap:
                tasks = self._turns.unserved(node)
                pulumi.log.warn(_gap(node, f"serves {' or '.join(tasks)}" if tasks else "serves"))
            if self._way_back is not None:
                await self._way_back.remember(node)
            await self._clear(node)
        except (NotEnough, RemoteError) as error:
            raise RuntimeError(str(error)) from None
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"node {node}: its host does not answer") from None

    async def _clear(self, node: str) -> None:
        """Stops what stands where a node goes; if that fails, starts it again."""
        try:
            for stopped in await asyncio.to_thread(self._turns.clear, node):
                pulumi.log.info(f"stopped, because node {node} takes its place: {stopped}")
        except (RemoteError, subprocess.TimeoutExpired):
            if self._way_back is not None:
                pulumi.log.warn(await self._way_back.undo(node))
            raise

    async def _finish(self, args: pulumi.ResourceHookArgs) -> None:
        self._turns.finish(args.name.partition("@")[0].removesuffix(_READY))


def _gap(node: str, serves: str = "serves") -> str:
    return f"no other node {serves} while {node} changes: requests fail until it is healthy again"


def _last_time(stack: str, urn: str) -> str | None:
    """How long the node of a turn took to become healthy, from the stack's state; None if it is new."""
    try:
        resources = state.export(stack).get("resources", [])
    except state.StateError:
        return None
    ready = urn.replace(f"{_SUFFIX}@", f"{_READY}@")
    for entry in resources:
        if entry["urn"] == ready:
            match = _HEALTHY_AFTER.search(str(entry.get("outputs", {}).get("stdout", "")))
            return f"The last time it took {match[1]} s" if match else "How long is not known yet"
    return None


def turn(
    name: str,
    host: Host,
    hooks: TurnHooks,
    declared: Sequence[Mapping[str, Any]],
    recovery: pulumi.Output[str],
    *,
    parent: pulumi.Resource,
    needs: Sequence[pulumi.Resource],
) -> pulumi.Resource:
    """Declares the turn of a node. It is another one whenever one of its containers is.

    `declared` are the arguments of the node's containers; they may be added until the program ends.
    `recovery` replaces the containers, too, when it changes.
    """
    # `apply` runs its function after the program has declared the node's containers.
    digested: pulumi.Output[Any] = pulumi.Output.from_input(None).apply(
        # Pulumi's own way makes an output of each text and number: a tenth of a preview's processor time.
        lambda _: pulumi.Output.all(*_outputs(declared)).apply(
            lambda known: digest((), json.dumps(_plain(declared, iter(known)), sort_keys=True))
        )
    )
    return host.declare(
        command.local.Command,
        f"{name}{_SUFFIX}",
        parent=parent,
        needs=needs,
        hooks=[hooks.before],
        before_0_1=False,
        create=f"echo the containers of {name} change",
        triggers=[
            _secret(digested),
            recovery,
        ],
    )


def _secret(digested: pulumi.Output[Any]) -> pulumi.Output[Any]:
    """A secret where it is known: passwords in the arguments may be short enough to be guessed from a digest.

    Of an unknown secret, which certificates of a new authority are in a preview, the engine says to the hook
    that it is malformed.
    """
    known = digested.is_known
    return pulumi.Output(digested.resources(), digested.future(), known(), known())


def _outputs(value: Any) -> Iterator[pulumi.Output[Any]]:
    """The outputs in arguments of containers."""
    if isinstance(value, pulumi.Output):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _outputs(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _outputs(inner)
    elif hasattr(value, "__dict__"):
        yield from _outputs(vars(value))


def _plain(value: Any, known: Iterator[Any]) -> Any:
    """Arguments of containers as data without types; `known` are the values of their outputs, in order."""
    if isinstance(value, pulumi.Output):
        return _plain(next(known), known)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, known) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, known) for inner in value]
    if hasattr(value, "__dict__"):
        return _plain(vars(value), known)
    return value
