"""Removes what a killed update left on a host, just before the update creates it again.

Pulumi was killed between the creation of a container or network and its record in the state. The next update
creates it again, under the same name. A resource hook removes the first one: hooks run when a resource is
created, and not in previews.
"""

import asyncio
import shlex
import subprocess

import pulumi

from infra.connection import Connection, RemoteError
from infra.names import STACK_LABEL
from infra.update import state

_SECONDS = 30


def clearing(connection: Connection, host: str, stack: str) -> pulumi.ResourceHookBinding:
    """The hooks of containers and networks on one host, which `connection` reaches.

    `stack` is the name in the label of the containers.
    """

    async def clear(args: pulumi.ResourceHookArgs) -> None:
        name = str((args.new_inputs or {})["name"])
        kind = "container" if args.type.endswith(":Container") else "network"
        # The program's event loop serves other hooks meanwhile.
        if await asyncio.to_thread(remove, connection, kind, name, stack):
            pulumi.log.warn(
                f"removed {kind} {name} on {connection.host}, which an update that failed or was "
                "interrupted had left there"
            )

    return pulumi.ResourceHookBinding(before_create=[pulumi.ResourceHook(f"clear@{host}", clear)])


def remove(connection: Connection, kind: str, name: str, stack: str) -> bool:
    """Removes a container or network of the stack that the stack's state does not have.

    Returns whether there was one. What another stack or another program made stays. Raises RuntimeError when
    the host cannot be reached, the state cannot be read, or Docker refuses, as with a network in use.
    """
    # The provider makes networks without labels.
    mark = f'index .Config.Labels "{STACK_LABEL}"' if kind == "container" else "len .Labels"
    expected = stack if kind == "container" else "0"
    inspect = f"docker {kind} inspect --format '{{{{.Id}}}} {{{{{mark}}}}}' {shlex.quote(name)}"
    try:
        seen = connection.run(inspect, timeout=_SECONDS, allowed=(0, 1)).stdout.split()
        if seen[1:] != [expected] or seen[0] in recorded(pulumi.get_stack()):
            return False
        options = " --force --volumes" if kind == "container" else ""
        connection.run(f"docker {kind} rm{options} {seen[0]}", timeout=_SECONDS)
    except (RemoteError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"{kind} {name}: {error}") from None
    return True


def recorded(stack: str) -> set[str]:
    """The ids of all resources in a stack's state. Raises StateError."""
    return {str(each["id"]) for each in state.export(stack).get("resources", []) if "id" in each}
