"""The gateway that a stack declares, wherever its nginx runs: pure functions from the stack."""

from collections.abc import Set

from inference_service.settings import RequestSettings
from infra.gateway.render import RateLimit, Site, Tls, UpstreamServer
from infra.stack import Node, Stack, UnixHost


def site(stack: Stack, away: Set[str] = frozenset()) -> Site:
    """The gateway's nginx, with its public ports; nodes that are `away`, by name, get no traffic."""
    gateway = stack.gateway
    limit = gateway.rate_limit
    request = stack.service.config.get("ai", {}).get("request", {})
    return Site(
        servers=upstreams(stack, away),
        http=gateway.http,
        grpc=gateway.grpc,
        tls=Tls(gateway.tls.certificate, gateway.tls.key) if gateway.tls else None,
        rate_limit=RateLimit(limit.requests_per_second, limit.burst) if limit else None,
        api_keys=tuple(key.get_secret_value() for key in stack.api_keys),
        cors_origins=tuple(stack.cors.origins),
        # The service's own limit, so that both refuse the same bodies.
        body_limit=int(request.get("max_body_bytes", RequestSettings().max_body_bytes)),
        grpc_balancing=gateway.grpc_balancing,
    )


def upstreams(stack: Stack, away: Set[str] = frozenset()) -> tuple[UpstreamServer, ...]:
    """The nodes as the gateway dials them; drained nodes, and those `away` by name, get no traffic."""
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
