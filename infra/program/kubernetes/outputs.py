"""What a stack in a cluster tells when it is up."""

from collections.abc import Mapping
from typing import Any

from infra.kubernetes import models
from infra.kubernetes.gateway import public_url
from infra.stack import Stack, roles
from infra.stack.hosts import bracketed


def of(stack: Stack, images: Mapping[str, str]) -> dict[str, Any]:
    """The stack's outputs: addresses, image references, pools, and the models' versions if they are known."""
    found: dict[str, Any] = {
        "gateway": {"http": public_url(stack), "grpc": _grpc(stack)},
        "nodes": {
            node.name: {
                "http": stack.node_url(node),
                "grpc": f"{node.public_host}:{stack.dialled_ports(node)[1]}",
                "drained": node.drained,
                "tasks": roles.tasks(stack, node),
                "pods": {"least": pool.least, "most": pool.most},
            }
            for node, pool in zip(stack.nodes, stack.pools, strict=True)
        },
        "images": dict(images),
        "namespace": stack.kubernetes.namespace,
    }
    if versions := models.known(stack):
        found["models"] = versions
    return found


def _grpc(stack: Stack) -> str:
    kubernetes, gateway = stack.kubernetes, stack.gateway
    if kubernetes.ingress is not None:
        return f"{kubernetes.ingress.grpc_host}:443" if kubernetes.ingress.grpc_host else ""
    if kubernetes.route is not None:
        return f"{gateway.public_host}:443"
    return f"{bracketed(gateway.public_host)}:{gateway.grpc}"
