"""`fleet status` and `fleet logs`."""

import subprocess
import sys
from contextlib import nullcontext
from typing import Annotated

import typer

from infra import names
from infra.cli import cluster, stack_files
from infra.cli.options import DEFAULT_STACK, JSON, STACK
from infra.cli.screen import Failed, show_json, show_table
from infra.cli.state import PartState, states
from infra.connection import Connection
from infra.embedded.layout import Layout
from infra.kubernetes.kubectl import logs_command
from infra.monitoring.parts import parts
from infra.stack import Stack


def status(stack: STACK = DEFAULT_STACK, as_json: JSON = False) -> int:
    """Show nodes, gateway and monitoring: health, load, address. Exit status 1 unless all are well."""
    loaded = stack_files.load(stack)
    found = cluster.states(loaded) if loaded.in_cluster else states(loaded)
    if as_json:
        show_json([each.as_json() for each in found])
    else:
        show_table(
            ("part", "role", "state", "running", "queued", "streams", "requests", "address", "host"),
            [_row(each) for each in found],
        )
        if not all(each.well for each in found):
            print(_helps(stack, found), file=sys.stderr)
    return 0 if all(each.well for each in found) else 1


def _row(part: PartState) -> list[str]:
    load = (
        [str(part.load[key]) if part.load else "" for key in ("running", "queued", "streams", "requests")]
        if part.load
        else [""] * 4
    )
    return [part.name, part.role, part.state, *load, part.address, part.host]


def _helps(stack: str, found: list[PartState]) -> str:
    """The command that goes on from a stack that is not well."""
    loaded = stack_files.load(stack)
    if stack_files.on_this_computer(loaded) and not any(part.well for part in found):
        return f"\nThe stack {stack} does not run. To start it: fleet up -s {stack}"
    if loaded.in_cluster:
        return f"\nFor the logs of a pool: fleet logs POOL -s {stack} [--part triton]"
    return f"\nFor the reasons and what to do: fleet doctor -s {stack}"


def logs(
    part: Annotated[
        str, typer.Argument(help="a node's name, gateway, or a part of monitoring such as prometheus")
    ],
    stack: STACK = DEFAULT_STACK,
    container: Annotated[
        str, typer.Option("--part", "-p", help="service, triton, unit-manager or llm-node")
    ] = names.SERVICE,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="how many of the last lines")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until Ctrl-C")] = False,
) -> int:
    """Print the last lines of the log of a node, the gateway, or a part of monitoring."""
    loaded = stack_files.load(stack)
    command = _command(loaded, part, container, lines, follow)
    with cluster.variables(loaded) if loaded.in_cluster else nullcontext() as own:
        return subprocess.run(command, check=False, env=own).returncode


def _command(stack: Stack, part: str, container: str, lines: int, follow: bool) -> list[str]:
    """The command that prints a log. Raises Failed for a part that the stack does not have."""
    gateways = {each.name: each.host for each in stack.gateway.each}
    watching = [each.name for each in parts(stack)]
    allowed = [*(node.name for node in stack.nodes), *gateways, *watching]
    if part not in allowed:
        raise Failed(f"{part}: expected one of {', '.join(allowed)}")
    if stack.in_cluster:
        cluster.need_kubectl()
        if container not in names.NODE_PARTS:
            raise Failed(f"--part {container}: expected one of {', '.join(names.NODE_PARTS)}")
        return logs_command(stack, part, container, lines, follow)
    if part in gateways:
        host, name, process = gateways[part], names.gateway_container(stack), names.GATEWAY
    elif part in watching and stack.monitoring_host is not None:
        host, name, process = stack.monitoring_host, names.monitoring_container(stack, part), part
    else:
        node = stack.node(part)
        if container not in names.NODE_PARTS:
            raise Failed(f"--part {container}: expected one of {', '.join(names.NODE_PARTS)}")
        host = node.host
        name, process = names.container(stack, node, container), names.process(part, container)
    if str(host) == "embedded":
        file = Layout.for_stack(stack.name).log(process)
        if not file.is_file():
            raise Failed(f"{part} has no log here.\nTo start the stack: fleet up -s {stack.name}")
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), str(file)]
    script = 'docker logs --tail "$1" $3 "$2" 2>&1'
    return Connection.to(host, stack.ssh).command(script, str(lines), name, "-f" if follow else "")
