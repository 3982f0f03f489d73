"""The settings of a gateway in the arguments of components: the keys of a stack file in snake case."""

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from infra.package.build import Build


class Tls(TypedDict):
    """The gateway's certificate."""

    certificate: str
    """The certificate chain (PEM), a path on the gateway's host."""
    key: str
    """Its private key (PEM), a path on the gateway's host."""


class RateLimit(TypedDict):
    """How many requests each client address may send through the gateway."""

    requests_per_second: NotRequired[float]
    burst: NotRequired[int]
    """Requests above the rate that pass before nginx refuses more with 429."""


class GatewaySettings(TypedDict):
    """The one HTTP and the one gRPC entrance over all nodes."""

    mode: NotRequired[str]
    """container: nginx in Docker; existing: an nginx that runs already; embedded: a process on this
    computer. Default: embedded if every node is embedded, else container."""
    public_host: NotRequired[str]
    """The name that clients use. Default: the host's address."""
    http: NotRequired[int]
    grpc: NotRequired[int]
    image: NotRequired[str]
    """container: the nginx image."""
    conf_dir: NotRequired[str]
    """existing: the folder whose ai_inference_service.servers*.conf the site includes."""
    nginx: NotRequired[str]
    """existing: the command that runs that nginx, e.g. `sudo nginx` or `docker exec site-nginx nginx`."""
    bind: NotRequired[str]
    """The IP address to listen on. Default: all addresses (embedded: the loopback address)."""
    grpc_balancing: NotRequired[str]
    """http2: gRPC calls are balanced; layer4: gRPC connections are."""
    tls: NotRequired[Tls]
    rate_limit: NotRequired[RateLimit]
    """false: no limit. Default: 50 requests a second with a burst of 10; no limit for an embedded gateway."""
    connection_limit: NotRequired[int]
    """Requests and streams that a client may have open at the same time; false: no limit."""
    streams_per_connection: NotRequired[int]
    """gRPC calls that one connection may have open; more wait in the client, or use another connection."""
    trusted_proxies: NotRequired[Sequence[str]]
    """Networks of load balancers in front of the gateway, e.g. 192.0.2.0/24. Their X-Forwarded-For names the
    client, whose address limits and logs use."""
    proxy_protocol: NotRequired[bool]
    """The trusted proxies send PROXY protocol headers instead of X-Forwarded-For."""


class VirtualAddress(TypedDict):
    """An address that one of several gateways holds: keepalived moves it, by VRRP between the gateways."""

    address: str
    """The address and its prefix, such as 198.51.100.10/24, which no host has by itself."""
    interface: NotRequired[str]
    """The network interface that gets the address. Default: the one with the gateway's own address."""
    router_id: NotRequired[int]
    """VRRP's virtual router ID, which no other VRRP router in that network has. Default: 51."""
    peers: NotRequired[Sequence[str]]
    """The gateways' own addresses in that network, in the order of the hosts. Default: the hosts'."""
    image: NotRequired[str]
    """The reference of an existing image with keepalived, curl and ip."""
    build: NotRequired[Build]
    """The folder and Dockerfile to build the image from."""


class Console(TypedDict):
    """The landing page at `/` and the console at `/console` of each gateway: a small process that watches the
    nodes."""

    enabled: NotRequired[bool]
    """Whether it runs. Default: true where the service is built from this project; false for the service of
    another image, which may have no console, and for an existing nginx, which cannot have one."""
    password: NotRequired[str]
    """Opens the console in place of the API keys. Default: one of the API keys; without keys everybody sees
    it."""
    memory: NotRequired[str]
    """container: its container's memory limit."""


class FleetGateway(GatewaySettings):
    """The gateway of a fleet, or several."""

    host: NotRequired[str]
    """Where the gateway runs. Default: the first node's host."""
    hosts: NotRequired[Sequence[str]]
    """The hosts of several gateways, in place of `host`. They change one after the other."""
    virtual_address: NotRequired[VirtualAddress]
    """An address that moves to another gateway when one fails. Without it, DNS names all gateways."""
    console: NotRequired[Console]
