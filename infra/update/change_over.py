"""Whether nodes have to serve with and without TLS, because the gateway still dials them the other way."""

from collections.abc import Callable, Mapping
from typing import Any

import pulumi

from infra.stack import Stack

#: A variable of the gateway's configuration in the state: the gateway dials nodes by TLS.
MARK = "NODE_TLS"
_NAME = "gateway-config"


def prepared(stack: Stack, exported: Callable[[], Mapping[str, Any]]) -> Stack:
    """The stack; with nodes that serve both ways if a gateway of the state dials them the other way.

    Then the nodes change first, each serving both ways, then the gateway. The next update closes the ports
    that the gateway does not use any more. `exported` gives the state, and may raise `state.StateError`.
    """
    if stack.gateway.mode != "container" or all(node.embedded for node in stack.nodes):
        return stack
    found = dialled_by_tls(exported())
    if not found - {stack.node_tls}:
        return stack
    to, other = ("TLS", "without TLS") if stack.node_tls else ("plain HTTP and gRPC", "with TLS")
    pulumi.log.warn(
        f"this update moves the traffic between gateway and nodes to {to}. Until the next update, the nodes "
        f"serve both ways: run `pulumi up` once more to close the ports {other}"
    )
    return stack.changing_over()


def dialled_by_tls(deployment: Mapping[str, Any]) -> set[bool]:
    """Whether the deployed gateways dial nodes by TLS: empty without a gateway, both while that changes."""
    return {
        MARK in (entry.get("inputs", {}).get("environment") or {})
        for entry in deployment.get("resources", [])
        if entry.get("type") == "command:local:Command"
        and str(entry.get("urn", "")).rpartition("::")[2].partition("@")[0] == _NAME
        and not entry.get("delete")
    }
