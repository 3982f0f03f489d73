"""What a stack tells when it is up."""

from collections.abc import Mapping, Set
from typing import Any

from infra.gateway.plan import public_url
from infra.monitoring import parts
from infra.monitoring.targets import targets
from infra.stack import Stack, roles
from infra.stack.hosts import bracketed


def of(
    stack: Stack,
    images: Mapping[str, str],
    models: Mapping[str, Mapping[str, str]],
    skipped: Set[str],
) -> dict[str, Any]:
    """The stack's outputs: addresses, image references, each node's model versions, and who was left out.

    `models` has the versions of synced models by node; `skipped` are nodes whose hosts could not be reached.
    """
    found: dict[str, Any] = {
        "gateway": _gateway(stack),
        "nodes": {
            node.name: {
                "http": stack.node_url(node),
                "grpc": f"{bracketed(node.public_host)}:{stack.dialled_ports(node)[1]}",
                "drained": node.drained,
                "tasks": roles.tasks(stack, node),
            }
            for node in stack.nodes
        },
        "images": dict(images),
        "models": {name: dict(versions) for name, versions in models.items() if versions},
        "prometheus": targets(stack),
    }
    if stack.monitoring is not None:
        found["monitoring"] = parts.told(stack)
    if skipped:
        found["skipped"] = sorted(skipped)
    return found


def _entrance(stack: Stack) -> dict[str, Any]:
    gateway = stack.gateway
    return {"http": public_url(stack), "grpc": f"{bracketed(gateway.public_host)}:{gateway.grpc}"}


def _gateway(stack: Stack) -> dict[str, Any]:
    """The entrance that clients use; of several gateways also each one's own, for DNS or a load balancer."""
    told = _entrance(stack)
    if stack.gateway.several:
        told["each"] = {each.gateway.name.partition("@")[2]: _entrance(each) for each in stack.gateways}
    if stack.gateway.virtual_address is not None:
        told["virtualAddress"] = stack.gateway.virtual_address.address
    return told
