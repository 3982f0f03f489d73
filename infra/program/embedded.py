"""Embedded nodes and the embedded gateway as Pulumi components: the same commands that run without Pulumi."""

import secrets
import shlex
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_command as command

from infra.digest import LARGE_BYTES, digest, files_in
from infra.embedded.declarations import NodeDeclaration, gateway_declaration, node_declaration
from infra.embedded.layout import Layout
from infra.embedded.returning import Returning
from infra.embedded.supervisor import Supervisor
from infra.node_health import NodeAddress
from infra.paths import PACKAGE, PROJECT
from infra.program import aliases
from infra.program.command import step
from infra.program.host import dependencies
from infra.program.secrets import concealed
from infra.stack import Node, Stack

_MODULE = "infra.embedded"


@dataclass(frozen=True)
class EmbeddedNodeArgs:
    """The fleet's settings and the node's."""

    stack: Stack
    node: Node


class EmbeddedNode(pulumi.ComponentResource):
    """A node as processes on this computer, after the resources in `opts.depends_on`."""

    def __init__(self, name: str, args: EmbeddedNodeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-inference:index:EmbeddedNode", name, None, opts)
        declaration = node_declaration(args.stack, args.node)
        secret = bool(args.stack.api_keys or args.node.remote.token)
        self.ready = command.local.Command(
            f"{name}-processes",
            **_node(args.stack, declaration, secret),
            opts=_options(self, "Node", f"{name}-processes", opts),
        )
        self.register_outputs({"programs": declaration.programs})


@dataclass(frozen=True)
class EmbeddedGatewayArgs:
    """The fleet's settings, the gateway's HTTP entrance, the names of the nodes that get no traffic, and the
    output of the step that puts nodes back, after each run of which the gateway is applied anew."""

    stack: Stack
    url: str
    away: Set[str] = frozenset()
    put_back: pulumi.Input[str] = ""


class EmbeddedGateway(pulumi.ComponentResource):
    """The gateway as a process on this computer, after the resources in `opts.depends_on`."""

    def __init__(
        self, name: str, args: EmbeddedGatewayArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("gpu-inference:index:EmbeddedGateway", name, None, opts)
        command.local.Command(
            f"{name}-process",
            **_gateway(args.stack, args.away, args.put_back),
            opts=_options(self, "Gateway", f"{name}-process", opts),
        )
        self.register_outputs(concealed({"http": args.url}, args.stack.secrets))


def _options(
    parent: pulumi.Resource, formerly: str, name: str, opts: pulumi.ResourceOptions | None
) -> pulumi.ResourceOptions:
    before_0_1 = aliases.embedded(formerly, command.local.Command, name)
    return pulumi.ResourceOptions(parent=parent, depends_on=dependencies(opts), aliases=[before_0_1])


def _node(stack: Stack, declaration: NodeDeclaration, secret: bool) -> dict[str, Any]:
    """The arguments of the `local.Command` that is an embedded node."""
    code = [PACKAGE / "inference_service"]
    if declaration.triton is not None:
        code.append(Path(declaration.triton.repository))
    stacked = f"--stack {shlex.quote(stack.name)}"
    generation = _generation(stack, declaration.name, declaration.programs)
    return step(
        _MODULE,
        f"{stacked} apply-node{_keep(stack, declaration.name)}",
        declaration,
        delete=f"{stacked} remove-node {declaration.name}",
        secret=secret,
        environment={"REVISION": digest(files_in(*code), large_bytes=LARGE_BYTES), "GENERATION": generation},
    )


def putting_back(stack: Stack, nodes: Sequence[NodeAddress]) -> dict[str, Any]:
    """The arguments of the `local.Command` that puts nodes that return behind the embedded gateway.

    `nodes` are those on Docker hosts that get traffic.
    """
    here = [node for node in stack.nodes if node.embedded and not node.drained]
    urls = {node.name: node_declaration(stack, node).health_url for node in here}
    declared = Returning(nodes=tuple(nodes), embedded=urls)
    return step(_MODULE, f"--stack {shlex.quote(stack.name)} put-back", declared)


def _gateway(stack: Stack, away: Set[str], put_back: pulumi.Input[str]) -> dict[str, Any]:
    """The arguments of the `local.Command` that is the embedded gateway."""
    declared = gateway_declaration(stack, away)
    stacked = f"--stack {shlex.quote(stack.name)}"
    return step(
        _MODULE,
        f"{stacked} apply-gateway{_keep(stack, 'gateway')}",
        declared,
        delete=f"{stacked} remove-gateway",
        secret=bool(stack.api_keys or stack.gateway.console.password),
        environment={"GENERATION": _generation(stack, "gateway", ["gateway"]), "PUT_BACK": put_back},
    )


def _generation(stack: Stack, part: str, programs: list[str]) -> str:
    """Stays the same while the part's processes run, and is a new one when they do not.

    Processes end with the computer and the state does not: so the next update sees that they have to be
    started.
    """
    file = _generation_file(stack, part)
    if file.is_file() and _running(Layout.for_stack(stack.name), programs):
        return file.read_text(encoding="utf-8")
    return secrets.token_hex(4)


def _running(layout: Layout, programs: list[str]) -> bool:
    supervisor = Supervisor(layout)
    if not supervisor.running() or not set(programs) <= set(supervisor.programs):
        return False
    return not any(supervisor.state(program).given_up for program in programs)


def _generation_file(stack: Stack, part: str) -> Path:
    return Layout.for_stack(stack.name).root / f"{part}.generation"


def _keep(stack: Stack, part: str) -> str:
    """What follows the command that starts the part: its generation is noted once it runs."""
    file = _generation_file(stack, part).relative_to(PROJECT)
    return f' && printf %s "$GENERATION" >{shlex.quote(str(file))}'
