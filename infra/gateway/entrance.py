"""What a stack's gateway is wherever its nginx runs: pure functions from the stack."""

from __future__ import annotations

from collections.abc import Set
from typing import Literal, TypedDict

from inference_service.settings import RequestSettings
from infra.gateway.render import RateLimit, Tls, UpstreamServer
from infra.stack import Node, Stack, UnixHost


class Entrance(TypedDict):
    """What the container's nginx and the embedded one have in common, by the names of `render.Site`."""

    servers: tuple[UpstreamServer, ...]
    tls: Tls | None
    rate_limit: RateLimit | None
    api_keys: tuple[str, ...]
    body_limit: int
    grpc_balancing: Literal["http2", "layer4"]


def entrance(stack: Stack, away: Set[str] = frozenset()) -> Entrance:
    """The gateway that the stack declares; nodes that are `away`, by name, get no traffic."""
    gateway = stack.gateway
    limit = gateway.rate_limit
    return Entrance(
        servers=upstreams(stack, away),
        tls=Tls(gateway.tls.certificate, gateway.tls.key) if gateway.tls else None,
        rate_limit=RateLimit(limit.requests_per_second, limit.burst) if limit else None,
        api_keys=tuple(key.get_secret_value() for key in stack.api_keys),
        body_limit=_body_limit(stack),
        grpc_balancing=gateway.grpc_balancing,
    )


def upstreams(stack: Stack, away: Set[str] = frozenset()) -> tuple[UpstreamServer, ...]:
    """The nodes as the gateway dials them; drained ones, and those `away` by name, get no traffic."""
    return tuple(
        UpstreamServer(
            node.name,
            _dialled(stack, node),
            node.public_http_port,
            node.public_grpc_port,
            drained=node.drained or node.name in away,
        )
        for node in stack.nodes
    )


def _dialled(stack: Stack, node: Node) -> str:
    """The host that the gateway dials for a node."""
    if (
        stack.gateway.mode == "container"
        and isinstance(node.host, UnixHost)
        and node.public_host == node.host.address
    ):
        return "host.docker.internal"  # In a container, 127.0.0.1 is the container.
    return node.public_host


def _body_limit(stack: Stack) -> int:
    """The service's own limit in bytes, so that both refuse the same bodies."""
    request = stack.service.config.get("ai", {}).get("request", {})
    return int(request.get("max_body_bytes", RequestSettings().max_body_bytes))
