"""What a stack tells when it is up."""

from collections.abc import Mapping, Set
from typing import Any

from infra.stack import Stack
from infra.stack.hosts import bracketed


def of(
    stack: Stack,
    gateway_url: str,
    images: Mapping[str, str],
    models: Mapping[str, Mapping[str, str]],
    skipped: Set[str],
) -> dict[str, Any]:
    """The stack's outputs: addresses, image references, each node's model versions, and who was left out.

    `models` has the versions of synced models by node; `skipped` are nodes whose hosts could not be reached.
    """
    gateway = stack.gateway
    found: dict[str, Any] = {
        "gateway": {"http": gateway_url, "grpc": f"{bracketed(gateway.public_host)}:{gateway.grpc}"},
        "nodes": {
            node.name: {
                "http": f"http://{bracketed(node.public_host)}:{node.public_http_port}",
                "grpc": f"{bracketed(node.public_host)}:{node.public_grpc_port}",
                "drained": node.drained,
            }
            for node in stack.nodes
        },
        "images": dict(images),
        "models": {name: dict(versions) for name, versions in models.items() if versions},
    }
    if skipped:
        found["skipped"] = sorted(skipped)
    return found
