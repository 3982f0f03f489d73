"""The Pulumi program: configuration, hosts that answer, then the fleet as resources, and its outputs."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

# Pulumi runs this folder as a program, so the project that it belongs to comes first.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from concurrent.futures import ThreadPoolExecutor  # noqa: E402

import pulumi  # noqa: E402

from infra.update import state  # noqa: E402

# The CLI takes half a second or more. Meanwhile Python imports the rest, which takes longer.
_EXPORTED = ThreadPoolExecutor(1).submit(state.export, pulumi.get_stack())

from infra.image_references import ContextError  # noqa: E402
from infra.models.files import ModelsError  # noqa: E402
from infra.program import sdk  # noqa: E402
from infra.program.fleet import Fleet, FleetArgs  # noqa: E402
from infra.stack import Stack, StackError, encrypted, load  # noqa: E402
from infra.update import change_over, prepare  # noqa: E402


def main() -> None:
    """Declares the stack that Pulumi names; what is wrong ends it with the reasons, without a traceback."""
    # When a resource fails, the engine interrupts the program. A traceback would hide the resource's error.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sdk.drop_debug_messages()
    pulumi.run(_outputs)


async def _outputs() -> dict[str, Any]:
    """Declares the stack; returns its outputs."""
    secrets: tuple[str, ...] = ()
    try:
        stack = load()
        secrets = stack.secrets
        outputs = _of_cluster(stack) if stack.in_cluster else await _of_hosts(stack)
    except (StackError, ContextError, ModelsError, prepare.CannotUpdate, state.StateError) as error:
        raise pulumi.RunError(encrypted.masked(str(error), secrets)) from None
    await sdk.begin()
    return outputs


async def _of_hosts(stack: Stack) -> dict[str, Any]:
    stack = change_over.prepared(stack, _EXPORTED.result)
    if not pulumi.runtime.is_dry_run():
        found = prepare.prepare(stack)
        return Fleet(stack.name, FleetArgs(stack, found.away, found.sick, found.written)).outputs
    # Pulumi starts the providers of the hosts one after the other. A preview changes nothing on the hosts, so
    # it need not wait for their answers.
    fleet = Fleet(stack.name, FleetArgs(stack, hosts_first=True))
    found = await asyncio.to_thread(prepare.prepare, stack)
    fleet.declare(FleetArgs(stack, found.away, found.sick, found.written))
    return fleet.outputs


def _of_cluster(stack: Stack) -> dict[str, Any]:
    # A stack on hosts needs no provider of Kubernetes, nor its package.
    try:
        from infra.program.kubernetes.fleet import Cluster, reached
        from infra.update.cluster.kubectl import ClusterError
    except ModuleNotFoundError as error:
        if error.name != "pulumi_kubernetes":
            raise
        raise pulumi.RunError(
            "target: kubernetes needs a package: pip install 'gpu-inference-fleet[kubernetes]'"
        ) from None

    try:
        return Cluster(stack.name, reached(stack)).outputs
    except ClusterError as error:
        raise pulumi.RunError(str(error)) from None


main()
