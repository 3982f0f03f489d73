"""The gateway that a stack declares, wherever its nginx runs: pure functions from the stack."""

import math
from collections.abc import Set
from typing import Any, TypeVar

from pydantic import ValidationError

from inference_service.settings import RequestSettings, ServerSettings
from infra.gateway.node_tls import NodeTls
from infra.gateway.render import DOCKER_HOST, RateLimit, Site, Tls, UpstreamServer
from infra.stack import Node, Stack, UnixHost

_Section = TypeVar("_Section", RequestSettings, ServerSettings)

#: Seconds by which the gateway waits longer than a node may take: the node then says itself what went wrong.
_LONGER_SECONDS = 20


def site(stack: Stack, away: Set[str] = frozenset(), node_tls: NodeTls | None = None) -> Site:
    """The gateway's nginx, with its public ports; nodes that are `away`, by name, get no traffic.

    `node_tls` has the files of a gateway that dials the nodes by TLS.
    """
    gateway = stack.gateway
    limit = gateway.rate_limit
    request = _given(RequestSettings, stack.service.config.get("ai", {}).get("request", {}))
    queued = _given(ServerSettings, stack.service.config.get("server", {})).queue_timeout
    return Site(
        servers=upstreams(stack, away),
        http=gateway.http,
        grpc=gateway.grpc,
        node_tls=node_tls,
        tls=Tls(gateway.tls.certificate, gateway.tls.key) if gateway.tls else None,
        rate_limit=RateLimit(limit.requests_per_second, limit.burst) if limit else None,
        api_keys=tuple(key.get_secret_value() for key in stack.api_keys),
        cors_origins=tuple(stack.cors.origins),
        connection_limit=gateway.connection_limit,
        streams_per_connection=gateway.streams_per_connection,
        trusted_proxies=tuple(gateway.trusted_proxies),
        proxy_protocol=gateway.proxy_protocol,
        # The service's own limits, so that both refuse the same bodies and nginx waits for every answer.
        body_limit=request.max_body_bytes,
        answer_seconds=math.ceil(queued + request.timeout + _LONGER_SECONDS),
        at_once=stack.rollout.batch_size(len(stack.nodes)),
        recording_seconds=math.ceil(queued + request.recording_timeout + _LONGER_SECONDS),
        grpc_balancing=gateway.grpc_balancing,
        console=stack.console is not None,
    )


def upstreams(stack: Stack, away: Set[str] = frozenset()) -> tuple[UpstreamServer, ...]:
    """The nodes as the gateway dials them; drained nodes, and those `away` by name, get no traffic."""
    return tuple(
        UpstreamServer(
            node.name,
            _dialled(stack, node),
            *stack.dialled_ports(node),
            drained=node.drained or node.name in away,
            tasks=tuple(node.tasks),
            weight=node.weight,
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
        return DOCKER_HOST  # In a container, 127.0.0.1 is the container.
    return node.public_host


def _given(settings: type[_Section], section: dict[str, Any]) -> _Section:
    """The service's settings of a section of `service.config`, without keys that it renames or ignores.

    The defaults where they are not this service's: the rules do not check those of another image.
    """
    try:
        return settings.model_validate({key: section[key] for key in settings.model_fields if key in section})
    except ValidationError:
        return settings()
