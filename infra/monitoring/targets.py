"""The targets of a Prometheus, each list as the content of a file for its `file_sd_configs`."""

from typing import Any

from infra.stack import Stack
from infra.stack.hosts import EmbeddedHost, bracketed

#: The port of Prometheus's node exporter.
NODE_EXPORTER_PORT = 9100


def targets(stack: Stack) -> dict[str, list[dict[str, Any]]]:
    """The targets by what they are: `gateways`, `nodes` and `hosts`, which may each be empty.

    A gateway without a console has no metrics, and nodes with TLS answer their gateways alone.
    """
    return {
        "gateways": _gateways(stack) if stack.console is not None else [],
        "nodes": [] if stack.node_tls else _nodes(stack),
        "hosts": _hosts(stack),
    }


def _gateways(stack: Stack) -> list[dict[str, Any]]:
    return [
        _target(stack, gateway.public_host, gateway.http, __scheme__=gateway.scheme)
        for gateway in stack.gateway.each
    ]


def _nodes(stack: Stack) -> list[dict[str, Any]]:
    return [
        _target(stack, node.public_host, stack.dialled_ports(node)[0], node=node.name) for node in stack.nodes
    ]


def _hosts(stack: Stack) -> list[dict[str, Any]]:
    """One for each machine: several nodes may be on one."""
    hosts = [*(gateway.host for gateway in stack.gateway.each), *(node.host for node in stack.nodes)]
    machines = dict.fromkeys(host.address for host in hosts if not isinstance(host, EmbeddedHost))
    return [_target(stack, machine, NODE_EXPORTER_PORT) for machine in machines]


def _target(stack: Stack, address: str, port: int, **labels: str) -> dict[str, Any]:
    return {"targets": [f"{bracketed(address)}:{port}"], "labels": {"stack": stack.name, **labels}}
