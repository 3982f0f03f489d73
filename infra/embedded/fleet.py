"""Brings a whole embedded stack up, one node after the other, and takes it down."""

from dataclasses import dataclass

from infra import names
from infra.embedded import environment
from infra.embedded.declarations import (
    GatewayDeclaration,
    NodeDeclaration,
    gateway_declaration,
    node_declaration,
)
from infra.embedded.errors import EmbeddedError
from infra.embedded.gateway import GATEWAY, apply_gateway
from infra.embedded.layout import Layout
from infra.embedded.node import apply_node, await_node, declared_nodes, remove_node, start_node
from infra.embedded.readiness import Progress, quiet
from infra.embedded.returning import Returning, put_back
from infra.embedded.supervisor import Supervisor
from infra.stack import Stack


@dataclass(frozen=True, slots=True)
class Fleet:
    """The declarations of an embedded stack."""

    nodes: tuple[NodeDeclaration, ...]
    gateway: GatewayDeclaration


def declare(stack: Stack) -> Fleet:
    """The declarations of a stack whose nodes and gateway are all `embedded`.

    Raises EmbeddedError naming the nodes that run elsewhere.
    """
    elsewhere = [f"node {node.name} is on {node.host}" for node in stack.nodes if not node.embedded]
    if stack.gateway.mode != "embedded":
        elsewhere.append(f"the gateway is in mode {stack.gateway.mode}")
    if elsewhere:
        raise EmbeddedError(f"the stack {stack.name} is not embedded as a whole: {'; '.join(elsewhere)}")
    return Fleet(tuple(node_declaration(stack, node) for node in stack.nodes), gateway_declaration(stack))


def check_ports(layout: Layout, fleet: Fleet) -> None:
    """Raise EmbeddedError naming every port of the fleet that another process listens on."""
    ports = {
        f"node {node.name}: ports.{key}": port for node in fleet.nodes for key, port in node.ports.items()
    }
    ports |= {f"gateway.{key}": port for key, port in fleet.gateway.ports.items()}
    environment.check_ports(layout, ports)


def up(layout: Layout, fleet: Fleet, progress: Progress = quiet) -> list[str]:
    """Start and change what does not run as declared; returns one line for each change.

    If a port is taken, nothing starts. Nodes that are down start together; nodes that serve change one after
    the other, each healthy before the next. Raises EmbeddedError.
    """
    check_ports(layout, fleet)
    done: list[str] = []
    serving = set(declared_nodes(layout)) if Supervisor(layout).running() else set()
    starting = [node for node in fleet.nodes if node.name not in serving]
    for node in starting:
        done += [f"{program} started" for program in start_node(layout, node)]
    for node in starting:
        await_node(layout, node, progress)
        progress(node.name, "ready")
    drained = {server.name for server in fleet.gateway.site.servers if server.drained}
    urls = {node.name: node.health_url for node in fleet.nodes if node.name not in drained}
    for name in put_back(layout, Returning(embedded=urls)):
        progress(name, "gets traffic again")
    for node in fleet.nodes:
        if node.name in serving:
            done += [f"{program} restarted" for program in apply_node(layout, node, progress)]
            progress(node.name, "ready")
    done += [f"gateway {what}" for what in apply_gateway(layout, fleet.gateway, progress)]
    progress("gateway", "ready")
    for name in sorted(set(declared_nodes(layout)) - {node.name for node in fleet.nodes}):
        done += [f"{program} removed" for program in remove_node(layout, name)]
    return done


def down(layout: Layout) -> list[str]:
    """Stop every program that `up` started, orphaned ones included; returns their names.

    The gateway stops first, so that no request is under way when the nodes stop.
    """
    if not layout.root.exists():
        return []
    supervisor = Supervisor(layout)
    service = names.process("", names.SERVICE)
    services = [name for name in supervisor.programs if name.endswith(service)]
    others = [name for name in supervisor.programs if name not in services and name != GATEWAY]
    return supervisor.remove([GATEWAY], services, others)
