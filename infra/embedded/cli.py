"""The embedded stack's commands: `python -m infra.embedded --help`."""

import argparse
import json
import os
import secrets
import sys
import time
from pathlib import Path

from infra.declaration import DeclarationError, from_json
from infra.embedded import demonstration, fleet, with_pulumi
from infra.embedded.declarations import GatewayDeclaration, NodeDeclaration
from infra.embedded.errors import EmbeddedError
from infra.embedded.gateway import apply_gateway, remove_gateway
from infra.embedded.layout import STATE, Layout
from infra.embedded.node import apply_node, remove_node
from infra.embedded.returning import Returning, put_back
from infra.embedded.supervisor import Supervisor, SupervisorError
from infra.paths import PROJECT, RECORDING, pulumi_cli
from infra.stack import Stack, StackError, load_file, roles


class Reporter:
    """Prints why each part of the stack is not ready: at every change, and again every ten seconds."""

    _EVERY_SECONDS = 10.0

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._printed: dict[str, tuple[str, float]] = {}

    def __call__(self, part: str, message: str) -> None:
        now = time.monotonic()
        last, printed_at = self._printed.get(part, ("", 0.0))
        if message != last or now - printed_at >= self._EVERY_SECONDS:
            self._printed[part] = (message, now)
            print(f"  {now - self._begin:5.1f} s  {part}: {message}", file=sys.stderr, flush=True)


def up(arguments: argparse.Namespace) -> None:
    """Bring the stack up, with Pulumi if it is installed, and send a recording through it."""
    layout = _layout(arguments)
    stack = load_file(_stack_file(arguments))
    declared = fleet.declare(stack)
    was_running = Supervisor(layout).running()
    try:
        _up(arguments, layout, stack, declared)
    except KeyboardInterrupt:
        if was_running:
            print(f"interrupted; `{layout.make('up')}` continues from here", file=sys.stderr)
        else:
            print("interrupted; stopping what was started", file=sys.stderr)
            fleet.down(layout)
        raise


def _up(arguments: argparse.Namespace, layout: Layout, stack: Stack, declared: fleet.Fleet) -> None:
    keys = list(declared.gateway.site.api_keys)
    cli = pulumi_cli()
    if cli is not None:
        print(f"Applying the stack {stack.name} with {cli}: pulumi up --stack {stack.name}", flush=True)
        fleet.check_ports(layout, declared)  # before Pulumi starts, so that one error names every taken port
        with_pulumi.up(cli, stack.name, arguments.state)
        if "apiKeys" in stack.encrypted:
            keys = with_pulumi.api_keys(cli, stack.name, arguments.state)
    else:
        without = "No Pulumi CLI on PATH or in ~/.pulumi/bin"
        print(f"{without}: applying the stack {stack.name} directly.", flush=True)
        if stack.encrypted:
            raise EmbeddedError(
                f"the stack {stack.name} has encrypted values, and only Pulumi can decrypt them: "
                f"{', '.join(stack.encrypted)}"
            )
        done = fleet.up(layout, declared, Reporter())
        for line in done or ["nothing to do: everything runs as declared"]:
            print(f"  {line}")

    for warning in roles.warnings(stack):
        print(f"warning: {warning}")
    served = [task for task in demonstration.TASKS if any(task in node.tasks for node in stack.nodes)]
    answers = demonstration.send(RECORDING, declared.gateway.url, keys[0] if keys else None, served)
    gateway = declared.gateway
    print(f"\n{os.path.relpath(RECORDING)}, through the gateway:\n{answers}\n")
    print(f"open  {gateway.url}/  (console: {gateway.url}/console, playground: {gateway.url}/demo)")
    print(f"HTTP  {gateway.url}/api/v1/ai/\ngRPC  127.0.0.1:{gateway.site.grpc}")
    for node in declared.nodes:
        print(f"      {node.name}: {node.url}, gRPC 127.0.0.1:{node.grpc}")
    print(f"live  .venv/bin/speech {os.path.relpath(RECORDING)} --realtime --url {gateway.url}")
    print(f"logs  {layout.logs}/\nstop  {layout.make('down')}")


def down(arguments: argparse.Namespace) -> None:
    """Stop every process of the stack."""
    stopped = fleet.down(_layout(arguments))
    print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


def apply_declared_node(arguments: argparse.Namespace) -> None:
    """Apply the node that standard input declares as JSON."""
    node: NodeDeclaration = from_json(sys.stdin.buffer.read(), NodeDeclaration)
    started = apply_node(_layout(arguments), node, Reporter())
    print(json.dumps({"node": node.name, "url": node.url, "started": started}))


def apply_declared_gateway(arguments: argparse.Namespace) -> None:
    """Apply the gateway that standard input declares as JSON."""
    gateway: GatewayDeclaration = from_json(sys.stdin.buffer.read(), GatewayDeclaration)
    done = apply_gateway(_layout(arguments), gateway, Reporter())
    print(json.dumps({"url": gateway.url, "done": done}))


def put_back_declared(arguments: argparse.Namespace) -> None:
    """Give traffic to the nodes that standard input declares as JSON and that answer."""
    back = put_back(_layout(arguments), from_json(sys.stdin.buffer.read(), Returning))
    for name in back:
        print(f"node {name} answers and gets traffic again")
    # Another output at every run, so that the gateway is applied again after this one.
    print(f"run {secrets.token_hex(8)}")


def remove_named_node(arguments: argparse.Namespace) -> None:
    """Stop the named node."""
    print(json.dumps({"stopped": remove_node(_layout(arguments), arguments.name)}))


def remove_running_gateway(arguments: argparse.Namespace) -> None:
    """Stop the gateway."""
    print(json.dumps({"stopped": remove_gateway(_layout(arguments))}))


def _stack_file(arguments: argparse.Namespace) -> Path:
    return PROJECT / f"Pulumi.{arguments.stack}.yaml"


def _layout(arguments: argparse.Namespace) -> Layout:
    return Layout.for_stack(arguments.stack, arguments.state)


_COMMANDS = {
    "up": up,
    "down": down,
    "apply-node": apply_declared_node,
    "apply-gateway": apply_declared_gateway,
    "put-back": put_back_declared,
    "remove-node": remove_named_node,
    "remove-gateway": remove_running_gateway,
}


def main() -> int:
    """Run the command that the arguments name; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.embedded", description=__doc__)
    parser.add_argument("--stack", default="dev", help="the stack's name: Pulumi.<stack>.yaml (default: dev)")
    parser.add_argument("--state", type=Path, default=STATE, help="the folder of all stacks' states")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run in _COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        if name == "remove-node":
            command.add_argument("name")
    arguments = parser.parse_args()
    try:
        return int(arguments.run(arguments) or 0)
    except (EmbeddedError, SupervisorError, StackError, demonstration.DemonstrationFailed) as error:
        print(f"error: {error}", file=sys.stderr)
    except DeclarationError as error:
        print(f"error: the declaration on standard input: {error}", file=sys.stderr)
    except OSError as error:  # a full disk, a folder that this user may not write
        print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
    return 1
