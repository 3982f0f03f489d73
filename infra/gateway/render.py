"""The gateway's nginx configuration, as text. Pure: the same site gives the same files.

`render_site` gives all files of the gateway's own nginx. `render_servers` gives the file that an existing
nginx includes into its `upstream ai_inference_service {}`. The templates are in `nginx/`.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from inference_service.addresses import GATEWAY_GRPC_PORT, GATEWAY_HTTP_PORT
from inference_service.origins import parse_origin
from inference_service.request_fields import REQUEST_ID_PATTERN
from infra.gateway import limits
from infra.gateway.checks import check, check_distinct, check_path, check_port, is_ip
from infra.gateway.cors import cors_values
from infra.gateway.node_tls import NodeTls
from infra.gateway.pools import TASKS, pools
from infra.names import STACK_NAME
from infra.paths import PACKAGE
from infra.stack.hosts import bracketed
from infra.stack.values import API_KEY, NAME

TEMPLATES = PACKAGE / "nginx"

#: Seconds for which nginx avoids a node that failed. Few, so that a node that has changed serves
#: again at once: reloads, which would forget failures too, pile up workers while there are streams.
FAILURE_SECONDS = 5

_NAME = re.compile(NAME)
#: Stands for the name server that nginx's container has, which its start puts in its place.
OWN_RESOLVER = "@resolver@"
#: The name of a container's host in the container.
DOCKER_HOST = "host.docker.internal"
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_API_KEY = re.compile(API_KEY)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")

#: gRPC's status codes of the gateway's own refusals, by number, with their messages (nginx adds no quotes).
_GRPC_ERRORS = {
    8: "the request is too large or there are too many requests",
    12: "no such method",
    13: "not a valid gRPC request",
    14: "no node can take the call now",
    16: "missing or wrong API key",
}


@dataclass(frozen=True, slots=True)
class UpstreamServer:
    """One node as the gateway dials it: `host` is a name or an IP address. A drained node gets no traffic.
    `tasks` are the short names of those that it serves; `weight` is its share, from 1 to 100.

    Raises ValueError naming the field that nginx's configuration cannot hold.
    """

    name: str
    host: str
    http_port: int
    grpc_port: int
    drained: bool = False
    tasks: tuple[str, ...] = TASKS
    weight: int = 1

    def __post_init__(self) -> None:
        check(_NAME, self.name, "name", "lower-case letters, digits and hyphens")
        if not is_ip(self.host):
            check(_HOST_NAME, self.host, "host", "a host name or an IP address")
        check_port(self.http_port, "http_port")
        check_port(self.grpc_port, "grpc_port")
        if not 1 <= self.weight <= 100:
            raise ValueError(f"weight: expected 1 to 100, got {self.weight}")
        if wrong := set(self.tasks) - set(TASKS):
            raise ValueError(f"tasks: expected {', '.join(TASKS)}, got {', '.join(sorted(wrong))}")

    @property
    def named(self) -> bool:
        """Whether a name server knows the host; Docker's name for a container's host is in a file only."""
        return not is_ip(self.host) and self.host != DOCKER_HOST

    @property
    def http_address(self) -> str:
        """`host:port` of HTTP, IPv6 addresses in brackets."""
        return f"{bracketed(self.host)}:{self.http_port}"

    @property
    def grpc_address(self) -> str:
        """`host:port` of gRPC, IPv6 addresses in brackets."""
        return f"{bracketed(self.host)}:{self.grpc_port}"


@dataclass(frozen=True, slots=True)
class Tls:
    """The certificate chain and its private key (PEM): absolute paths on the gateway."""

    certificate: str
    key: str

    def __post_init__(self) -> None:
        check_path(self.certificate, "tls.certificate")
        check_path(self.key, "tls.key")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests that one client may make a second, and how many above that are let through at once."""

    per_second: float = 50
    burst: int = 10

    def __post_init__(self) -> None:
        if not self.per_second * 60 >= 1:
            raise ValueError(f"rate_limit.per_second: expected at least one a minute, got {self.per_second}")
        if self.burst < 0:
            raise ValueError(f"rate_limit.burst: expected 0 or more, got {self.burst}")

    @property
    def rate(self) -> str:
        """As nginx writes it: whole requests a second, else whole requests a minute."""
        if self.per_second == int(self.per_second):
            return f"{int(self.per_second)}r/s"
        return f"{round(self.per_second * 60)}r/m"


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of nginx's own files; the defaults are those of the official nginx image.

    `temp` is a folder that exists. `api_keys` is the file of `RenderedSite.api_keys` (mode 0600). `console`
    and `console_log` are the sockets of the console: for pages, and for a line about each request.
    """

    pid: str = "/run/nginx.pid"
    error_log: str = "/dev/stderr"
    access_log: str = "/dev/stdout"
    temp: str = "/var/cache/nginx"
    api_keys: str = "/etc/nginx/api_keys.conf"
    console: str = "/run/fleet/console.sock"
    console_log: str = "/run/fleet/log.sock"

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            check_path(getattr(self, name), f"paths.{name}")


@dataclass(frozen=True, slots=True)
class Site:
    """The gateway's own nginx.

    `bind` is the IP address to listen on, empty for all of IPv4. `body_limit` is in bytes. A node may take
    `answer_seconds` for an answer, and `recording_seconds` for one that may be about a long recording. `user`
    runs the workers of a nginx that root starts (None: nginx's default, which an unprivileged nginx needs).
    `grpc_balancing` is `http2` (calls are balanced) or `layer4` (connections are balanced; TLS ends here,
    only the nodes check keys). `load_modules` are dynamic modules, e.g. Debian's stream module for `layer4`.
    `at_once` nodes may be stopping at the same time: an update's batch. `node_tls`: it dials nodes by TLS.
    `connection_limit`: requests and streams of a client at the same time, None for no limit (`layer4`:
    connections of an address). A client is an API key where there are keys, else an address.
    `streams_per_connection`: of gRPC. `trusted_proxies` are networks whose X-Forwarded-For names the client;
    with `proxy_protocol` they send PROXY headers instead.
    `console`: the console runs beside nginx, which serves the landing page and the console from it.
    `resolver`: the name server that nginx asks for the names of nodes again while it runs; None: it resolves
    them at its start only, as nginx before 1.27.3 does.
    `reuses_nodes`: a connection to a node takes further requests. Where the kernel sends again for a quarter
    of an hour (TCP's default), a request on one to a machine that was cut off waits as long as it may.
    `keeps_connections`: a reload closes no connection that was just used; nginx before 1.27.4 cannot do that.
    """

    servers: tuple[UpstreamServer, ...] = ()
    http: int = GATEWAY_HTTP_PORT
    grpc: int = GATEWAY_GRPC_PORT
    bind: str = ""
    tls: Tls | None = None
    node_tls: NodeTls | None = None
    rate_limit: RateLimit | None = field(default_factory=RateLimit)
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    cors_origins: tuple[str, ...] = ()
    body_limit: int = 100_000_000
    answer_seconds: int = 180
    recording_seconds: int = 1830
    at_once: int = 1
    connection_limit: int | None = 1000
    streams_per_connection: int = 256
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    grpc_balancing: Literal["http2", "layer4"] = "http2"
    worker_processes: int | Literal["auto"] = "auto"
    user: str | None = None
    load_modules: tuple[str, ...] = ()
    keeps_connections: bool = True
    reuses_nodes: bool = True
    console: bool = False
    resolver: str | None = None
    paths: Paths = field(default_factory=Paths)

    def __post_init__(self) -> None:
        check_port(self.http, "http")
        check_port(self.grpc, "grpc")
        if self.http == self.grpc:
            raise ValueError(f"grpc: expected another port than http's, got {self.grpc} for both")
        if self.bind and not is_ip(self.bind):
            raise ValueError(f"bind: expected an IP address or nothing, got {self.bind!r}")
        if self.user is not None:
            check(_USER, self.user, "user", "a user's name")
        if self.resolver not in (None, OWN_RESOLVER) and not is_ip(self.resolver or ""):
            raise ValueError(f"resolver: expected an IP address, got {self.resolver!r}")
        for module in self.load_modules:
            check_path(module, "load_modules")
        for number, key in enumerate(self.api_keys):
            if not _API_KEY.fullmatch(key):  # the message must not show the key
                raise ValueError(
                    f"api_keys[{number}]: expected 8 to 256 letters, digits or any of . _ ~ + / = -"
                )
        for network in self.trusted_proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError:
                raise ValueError(f"trusted_proxies: expected networks, got {network!r}") from None
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("trusted_proxies: required with proxy_protocol")
        for origin in self.cors_origins:
            if parse_origin(origin) != origin:
                raise ValueError(f"cors_origins: expected {parse_origin(origin)}, got {origin!r}")
        check_distinct(self.servers, "name", "http_address", "grpc_address")


@dataclass(frozen=True, slots=True)
class RenderedSite:
    """The files of a site. `api_keys`, None without keys, is a secret: only nginx may read it."""

    nginx_conf: str
    api_keys: str | None = field(repr=False)


def render_site(site: Site) -> RenderedSite:
    """The whole configuration: `nginx.conf`, and the file that it includes from `site.paths.api_keys`."""
    # nginx requires a server in every upstream. With one that is down, it answers as without live nodes.
    servers = site.servers or (_NO_NODE,)
    nginx_conf = _template("nginx.conf.j2").render(
        site=site,
        servers=servers,
        paths=site.paths,
        pools=pools(site.servers),
        no_node=_NO_NODE,
        tries=limits.tries(site),
        failure_seconds=FAILURE_SECONDS,
        grpc_errors=_GRPC_ERRORS,
        request_id_pattern=REQUEST_ID_PATTERN,
        cors=cors_values(site.cors_origins),
        client="$ai_api_key" if site.api_keys else "$binary_remote_addr",
        too_many=limits.too_many(site),
    )
    keys = None
    if site.api_keys:
        keys = _template("api_keys.conf.j2").render(keys=[_pattern(key) for key in site.api_keys])
    return RenderedSite(nginx_conf, keys)


def render_servers(stack: str, servers: tuple[UpstreamServer, ...]) -> str:
    """The servers of `stack` for an existing site's `upstream ai_inference_service {}`: `server` lines only.

    The site chooses the balancing method, so nothing here depends on one (`backup` would).
    """
    check(STACK_NAME, stack, "stack", "letters, digits, hyphens, dots and underscores")
    check_distinct(servers, "name", "http_address")
    return _template("servers.conf.j2").render(
        stack=stack, servers=servers or (_NO_NODE,), site=None, failure_seconds=FAILURE_SECONDS
    )


def _template(name: str) -> Template:
    return _environment().get_template(name)


@functools.cache
def _environment() -> Environment:
    """The templates. It keeps those that it has compiled, which takes 40 ms or more for a site."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # what goes in is checked above
    )


def _pattern(key: str) -> str:
    """`key` as a regular expression for nginx; `_API_KEY` allows no other special characters."""
    return re.sub(r"[.+]", lambda match: f"\\{match[0]}", key)


_NO_NODE = UpstreamServer("no-node", "127.0.0.1", 9, 9, drained=True)
