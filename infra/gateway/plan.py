"""The plan of a stack's gateway: pure, and made once for an update."""

import dataclasses
from collections.abc import Set
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import PurePosixPath

from msgspec import UNSET

from inference_service import addresses
from infra import names
from infra.certificates import Identity
from infra.connection import Connection
from infra.digest import digest
from infra.gateway import entrance, reload, watched
from infra.gateway.checks import is_ip
from infra.gateway.configuration import Configuration, ContainerConfiguration, ExistingSite
from infra.gateway.entrance import upstreams
from infra.gateway.node_tls import NodeTls
from infra.gateway.render import Paths, render_servers, render_site
from infra.stack import Stack
from infra.stack.hosts import EmbeddedHost, bracketed

# A placeholder, in a configuration's text, for its folder's name, which is the digest of the text.
_DRAFT = "revision"
# Docker's name server, in every container of a network that is not the default one.
_DOCKERS_RESOLVER = "127.0.0.11"


@dataclass(frozen=True, slots=True)
class GatewayPlan:
    """The gateway of an update.

    `reload` is a script for the gateway's host. `live` is the file there with the servers that nginx reads.
    `configuration` and `live` are None for a process on this computer, which needs no script.
    """

    url: str
    reload: str = ":"
    live: str | None = None
    configuration: Configuration | None = field(default=None, repr=False)


def public_url(stack: Stack) -> str:
    """The HTTP entrance, by the name that clients use."""
    # An existing site's own address is not known here.
    gateway = stack.gateway
    return f"{gateway.scheme}://{bracketed(gateway.public_host)}:{gateway.http}"


def own_url(stack: Stack) -> str:
    """The HTTP entrance as the gateway's own host reaches it.

    Clients may use a name or an address that this host does not know: that of a load balancer, for example.
    """
    gateway = stack.gateway
    address = gateway.public_host if gateway.several else gateway.host.address
    if gateway.bind is not None and is_ip(gateway.bind) and not ip_address(gateway.bind).is_unspecified:
        address = gateway.bind
    elif not is_ip(address):
        address = names.LOOPBACK
    return f"{gateway.scheme}://{bracketed(address)}:{gateway.http}"


def curl_options(stack: Stack) -> tuple[str, ...]:
    """The options of `curl` for a request to a gateway by another address than its public one."""
    gateway = stack.gateway
    # The name in the certificate is not the host's.
    return (
        *(("--insecure",) if gateway.tls is not None else ()),
        *(("--haproxy-protocol",) if gateway.proxy_protocol else ()),
    )


def gateway_plan(stack: Stack, away: Set[str] = frozenset(), client: Identity | None = None) -> GatewayPlan:
    """The plan for the gateway that the stack declares; nodes that are `away`, by name, get no traffic.

    `client` is the gateway's certificate where it dials the nodes by TLS; else the plan lacks these files.
    """
    gateway = stack.gateway
    url = public_url(stack)
    if isinstance(gateway.host, EmbeddedHost):
        return GatewayPlan(url)
    connection = Connection.to(gateway.host, stack.ssh)
    if gateway.mode == "existing":
        conf_dir = PurePosixPath(gateway.conf_dir)
        file = str(conf_dir / names.upstream_file(stack.name))
        existing = ExistingSite(
            connection=connection,
            stack=stack.name,
            folder=names.gateway_folder(stack),
            file=file,
            nginx=gateway.nginx,
            sets_aside=str(conf_dir / names.UPSTREAM_FILES),
            servers=render_servers(stack.name, upstreams(stack, away)),
        )
        return GatewayPlan(url, reload.existing(file, gateway.nginx), file, existing)
    container = names.gateway_container(stack)
    revision, files = _rendered(stack, away, client)
    configuration = ContainerConfiguration(
        connection=connection,
        folder=names.gateway_folder(stack),
        container=container,
        image=gateway.image,
        mounts=tuple(_tls_folders(stack)),
        revision=revision,
        files=files,
        dials=tuple(each.http_address for each in upstreams(stack, away) if not each.drained)
        if stack.node_tls
        else UNSET,
    )
    live = f"{names.gateway_folder(stack)}/{names.CURRENT}/{names.NGINX_CONF}"
    return GatewayPlan(url, reload.container(container), live, configuration)


def _rendered(stack: Stack, away: Set[str], client: Identity | None) -> tuple[str, dict[str, str]]:
    """The name of a configuration's folder, and the files in it."""
    site = dataclasses.replace(
        entrance.site(stack, away, _node_tls() if stack.node_tls else None),
        http=addresses.GATEWAY_HTTP_PORT,
        grpc=addresses.GATEWAY_GRPC_PORT,
        resolver=_DOCKERS_RESOLVER,
        paths=Paths(
            api_keys=_in_folder(_DRAFT, names.API_KEYS_CONF),
            console=_in_folder(names.CONSOLE_FOLDER, names.CONSOLE_SOCKET),
            console_log=_in_folder(names.CONSOLE_FOLDER, names.CONSOLE_LOG_SOCKET),
        ),
    )
    draft = render_site(site)
    older = render_site(dataclasses.replace(site, keeps_connections=False, resolver=None))
    files = {names.NGINX_CONF: draft.nginx_conf, names.OLDER_NGINX_CONF: older.nginx_conf}
    if draft.api_keys is not None:
        files[names.API_KEYS_CONF] = draft.api_keys
    if client is not None:
        files[names.CLIENT_CERTIFICATE] = client.certificate
        files[names.CLIENT_KEY] = client.key
        files[names.NODE_AUTHORITY] = client.authority
    if site.console:
        files[names.CONSOLE_SETTINGS] = watched.settings(stack, away, public_url(stack))
    revision = digest((), *files.values())
    before, after = _in_folder(_DRAFT, ""), _in_folder(revision, "")
    return revision, {name: text.replace(before, after) for name, text in files.items()}


def _node_tls() -> NodeTls:
    files = (names.CLIENT_CERTIFICATE, names.CLIENT_KEY, names.NODE_AUTHORITY)
    return NodeTls(*(_in_folder(_DRAFT, file) for file in files))


def _in_folder(revision: str, file: str) -> str:
    return f"{names.CONFIGURATIONS_MOUNT}/{revision}/{file}"


def _tls_folders(stack: Stack) -> list[str]:
    """The certificate's folders on the gateway's host, which its container sees at the same paths.

    Folders and not files, so that a renewed certificate is there too. In certbot's `letsencrypt/live/NAME`
    are links to `letsencrypt/archive/NAME`.
    """
    tls = stack.gateway.tls
    if tls is None:
        return []
    folders = {PurePosixPath(path).parent for path in (tls.certificate, tls.key)}
    for folder in list(folders):
        if folder.parent.parts[-2:] == ("letsencrypt", "live"):
            folders.add(folder.parents[1] / "archive" / folder.name)
    return sorted(map(str, folders))
