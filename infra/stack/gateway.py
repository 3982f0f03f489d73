"""The gateway of a stack: where its nginx runs, its certificate and its limits."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field

from inference_service import addresses
from infra.stack.console import Console
from infra.stack.hosts import EmbeddedHost, machine_of
from infra.stack.images import ImageSource, OwnBuild
from infra.stack.section import Section
from infra.stack.values import (
    DialledHost,
    HostAddress,
    HostPath,
    InterfaceAddress,
    InterfaceName,
    IpAddress,
    Network,
    NonEmpty,
    PemPath,
    Port,
    Positive,
    off,
)

NGINX_IMAGE = "nginx:1.28"


class Tls(Section):
    """The gateway's certificate."""

    certificate: PemPath
    """The certificate chain (PEM), a path on the gateway's host."""
    key: PemPath
    """Its private key (PEM), a path on the gateway's host."""


class RateLimit(Section):
    """How many requests each client may send through the gateway: an API key where there are keys, else an
    address."""

    requests_per_second: Positive = 50
    burst: Annotated[int, Field(ge=0)] = 10
    """Requests above the rate that pass before nginx refuses more with 429."""


class VirtualAddress(ImageSource):
    """An address that one of several gateways holds: keepalived moves it, by VRRP between the gateways.

    VRRP version 3, because version 2 cannot move the address within 3 seconds. It has no password; that of
    version 2 was readable by all who could forge it. A gateway takes messages from the others' addresses on
    the same link only.
    """

    own_build = OwnBuild(context=".", dockerfile="docker/keepalived.Dockerfile")

    address: InterfaceAddress
    """The address and its prefix, such as 198.51.100.10/24, which no host has by itself."""
    interface: InterfaceName | None = None
    """The network interface that gets the address. Default: the one with the gateway's own address."""
    router_id: Annotated[int, Field(ge=1, le=255)] = 51
    """VRRP's virtual router ID, which no other VRRP router in that network has."""
    peers: list[IpAddress] = Field(default_factory=list)
    """The gateways' own addresses in that network, in the order of gateway.hosts. Default: the hosts'."""

    @property
    def ip(self) -> str:
        """The address without its prefix."""
        return self.address.partition("/")[0]


class Gateway(Section):
    """The one HTTP and the one gRPC entrance over all nodes."""

    mode: Literal["container", "existing", "embedded"] = "container"
    """container: nginx in Docker; existing: an nginx that runs already; embedded: a process on this computer.
    Default: embedded if every node is embedded, else container."""
    hosts: Annotated[list[HostAddress], Field(min_length=1)] = Field(default_factory=list)
    """container: the hosts of several gateways, in place of `host`. They change one after the other."""
    virtual_address: VirtualAddress | None = None
    """An address that moves to another gateway when one fails. Without it, DNS names all gateways."""
    host: HostAddress = Field(
        default_factory=lambda data: data["hosts"][0] if data["hosts"] else EmbeddedHost()
    )
    """Where the gateway runs. Default: the first node's host."""
    public_host: DialledHost = Field(
        default_factory=lambda data: (
            data["virtual_address"].ip if data["virtual_address"] else data["host"].address
        )
    )
    """The name that clients use. Default: the virtual address, else the (first) host's address."""
    http: Port = addresses.GATEWAY_HTTP_PORT
    grpc: Port = addresses.GATEWAY_GRPC_PORT
    image: NonEmpty = NGINX_IMAGE
    """container: the nginx image."""
    conf_dir: HostPath = "/etc/nginx/conf.d"
    """existing: the folder whose ai_inference_service.servers*.conf the site includes."""
    nginx: NonEmpty = "nginx"
    """existing: the command that runs that nginx, e.g. `sudo nginx` or `docker exec site-nginx nginx`."""
    bind: DialledHost | None = None
    """The IP address to listen on. Default: all addresses (embedded: the loopback address)."""
    grpc_balancing: Literal["http2", "layer4"] = "http2"
    """http2: gRPC calls are balanced; layer4: gRPC connections are."""
    tls: Tls | None = None
    rate_limit: Annotated[RateLimit | None, BeforeValidator(off)] = Field(
        default_factory=lambda data: None if data["mode"] == "embedded" else RateLimit(),
    )
    """false: no limit. Default: 50 requests a second with a burst of 10; no limit for an embedded gateway."""
    connection_limit: Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(off)] = 1000
    """Requests and streams that a client may have open at the same time; false: no limit."""
    streams_per_connection: Annotated[int, Field(ge=1, le=4096)] = 256
    """gRPC calls that one connection may have open; more wait in the client, or use another connection."""
    trusted_proxies: list[Network] = Field(default_factory=list)
    """Networks of load balancers in front of the gateway, e.g. 192.0.2.0/24. Their X-Forwarded-For names the
    client, whose address limits and logs use."""
    proxy_protocol: bool = False
    """The trusted proxies send PROXY protocol headers instead of X-Forwarded-For."""
    console: Console = Field(default_factory=Console)

    @property
    def scheme(self) -> str:
        """How clients speak HTTP to it."""
        return "https" if self.tls is not None else "http"

    @property
    def several(self) -> bool:
        """Whether there is more than one gateway."""
        return len(self.hosts) > 1

    @property
    def name(self) -> str:
        """What tells the gateway on `host` from the others: `gateway` where it is the only one."""
        return f"gateway@{machine_of(self.host)}" if self.several else "gateway"

    @property
    def each(self) -> tuple[Self, ...]:
        """The gateways, each with its own host and its own address, in the order in which they change."""
        if not self.hosts:
            return (self,)
        own = self.own_addresses
        # A gateway alone is what clients use, by the name that the stack gives.
        return tuple(
            self.model_copy(
                update={"host": host, "public_host": own[i] if self.several else self.public_host}
            )
            for i, host in enumerate(self.hosts)
        )

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """The gateways' own addresses, in the order of `hosts`."""
        peers = self.virtual_address.peers if self.virtual_address is not None else []
        if len(peers) == len(self.hosts):
            return tuple(peers)
        return tuple(host.address for host in self.hosts)
