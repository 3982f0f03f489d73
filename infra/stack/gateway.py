"""The gateway of a stack: where its nginx runs, its certificate and its limits."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from inference_service import addresses
from infra.stack.hosts import EmbeddedHost
from infra.stack.section import Section
from infra.stack.values import (
    DialledHost,
    HostAddress,
    HostPath,
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


class Gateway(Section):
    """The one HTTP and the one gRPC entrance over all nodes."""

    mode: Literal["container", "existing", "embedded"] = "container"
    """container: nginx in Docker; existing: an nginx that runs already; embedded: a process on this computer.
    Default: embedded if every node is embedded, else container."""
    host: HostAddress = EmbeddedHost()
    """Where the gateway runs. Default: the first node's host."""
    public_host: DialledHost = Field(default_factory=lambda data: data["host"].address)
    """The name that clients use. Default: the host's address."""
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
