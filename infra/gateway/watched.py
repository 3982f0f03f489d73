"""What the console beside a gateway watches: pure functions from the stack."""

from collections.abc import Mapping, Set
from ipaddress import ip_address

import msgspec

from inference_service import addresses
from inference_service.console.settings import ConsoleSettings, WatchedNode
from infra import names
from infra.gateway.entrance import upstreams
from infra.stack import Stack
from infra.stack.hosts import ClusterHost, bracketed, machine_of


def nodes(stack: Stack, away: Set[str], urls: Mapping[str, str]) -> tuple[WatchedNode, ...]:
    """The nodes, at the bases of their HTTP APIs in `urls`; those `away` by name are skipped."""
    return tuple(
        WatchedNode(
            name=node.name,
            url=urls[node.name],
            host=str(node.host),
            role=node.role,
            state="skipped" if node.name in away else "drained" if node.drained else "serving",
            # Its name has the address of each of its pods.
            pool=True if isinstance(node.host, ClusterHost) else msgspec.UNSET,
        )
        for node in stack.nodes
    )


def settings(stack: Stack, away: Set[str], url: str, probe: str | None = None) -> str:
    """The file of settings of a console in a container, as JSON without secrets; `url` is the gateway's.

    It dials the nodes as nginx does, and nginx at `probe`. Default: by its name on the network of both.
    """
    gateway = stack.gateway
    probe = probe or f"{gateway.scheme}://{names.GATEWAY}:{addresses.GATEWAY_HTTP_PORT}"
    dialled = {
        server.name: f"{stack.node_scheme}://{server.http_address}" for server in upstreams(stack, away)
    }
    made = ConsoleSettings(
        stack=stack.name,
        nodes=nodes(stack, away, dialled),
        gateway=url,
        # nginx takes connections with a PROXY header only, which the console does not write.
        probe=None if gateway.proxy_protocol else probe,
        socket=f"{names.CONSOLE_MOUNT}/{names.CONSOLE_SOCKET}",
        log_socket=f"{names.CONSOLE_MOUNT}/{names.CONSOLE_LOG_SOCKET}",
        prometheus=prometheus(stack),
    )
    return msgspec.json.format(msgspec.json.encode(made)).decode()


def prometheus(stack: Stack) -> str | msgspec.UnsetType:
    """The address of the Prometheus that reads the fleet, as the gateway's console reaches it."""
    monitoring, own = stack.monitoring, stack.monitoring_host
    if monitoring is None:
        return msgspec.UNSET
    if own is None:
        return monitoring.existing or msgspec.UNSET
    port = monitoring.prometheus.port
    if machine_of(own) == machine_of(stack.gateway.host):
        # It is on the gateway's network, as the console is.
        return f"http://{names.PROMETHEUS}:{port}"
    bound = monitoring.prometheus.bind
    return msgspec.UNSET if ip_address(bound).is_loopback else f"http://{bracketed(bound)}:{port}"
