"""The plan of a stack's gateway: pure, and made once for an update."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from infra import names
from infra.digest import digest
from infra.gateway import reload
from infra.gateway.entrance import entrance, upstreams
from infra.gateway.render import Paths, Site, render_servers, render_site
from infra.stack import Stack
from infra.stack.hosts import EmbeddedHost, bracketed

# Stands for the name of a configuration's folder, which is the digest of the configuration, in its text.
_DRAFT = "revision"


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """An nginx in a container, and the configuration that it uses.

    `folder`, on the gateway's host, keeps the configurations: this one as `revision` with `files`. The
    container sees `mounts` at the same paths. `reload` is a script for the host.
    """

    url: str
    reload: str
    container: str
    folder: str
    mounts: tuple[str, ...]
    revision: str
    files: dict[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ExistingPlan:
    """The stack's upstream file, with the text `servers`, in a site of somebody else's nginx.

    `sets_aside` is the path, with wildcards, of the files that the site includes. `folder` is for what a step
    notes. `reload` is a script for the host.
    """

    url: str
    reload: str
    folder: str
    file: str
    sets_aside: str
    servers: str


@dataclass(frozen=True, slots=True)
class EmbeddedPlan:
    """An nginx that is a process on this computer. `reload` is a script for the project's folder."""

    url: str
    reload: str


GatewayPlan = ContainerPlan | ExistingPlan | EmbeddedPlan


def gateway_plan(stack: Stack, away: Set[str] = frozenset()) -> GatewayPlan:
    """The plan for the gateway that the stack declares; nodes that are `away`, by name, get no traffic."""
    gateway = stack.gateway
    if isinstance(gateway.host, EmbeddedHost):
        return EmbeddedPlan(_url(stack), reload.embedded(stack.name))
    if gateway.mode == "existing":
        conf_dir = PurePosixPath(gateway.conf_dir)
        file = str(conf_dir / names.upstream_file(stack.name))
        return ExistingPlan(
            url=_url(stack),
            reload=reload.existing(file, gateway.nginx),
            folder=names.gateway_folder(stack),
            file=file,
            sets_aside=str(conf_dir / names.UPSTREAM_FILES),
            servers=render_servers(stack.name, upstreams(stack, away)),
        )
    revision, files = _configuration(stack, away)
    return ContainerPlan(
        url=_url(stack),
        reload=reload.container(names.gateway_container(stack)),
        container=names.gateway_container(stack),
        folder=names.gateway_folder(stack),
        mounts=tuple(_tls_folders(stack)),
        revision=revision,
        files=files,
    )


def _configuration(stack: Stack, away: Set[str]) -> tuple[str, dict[str, str]]:
    """The name of a configuration's folder, and the files in it."""
    site = Site(
        **entrance(stack, away),
        http=names.GATEWAY_HTTP_PORT,
        grpc=names.GATEWAY_GRPC_PORT,
        paths=Paths(api_keys=_in_folder(_DRAFT, names.API_KEYS_CONF)),
    )
    draft = render_site(site)
    older = render_site(dataclasses.replace(site, keeps_connections=False))
    files = {names.NGINX_CONF: draft.nginx_conf, names.OLDER_NGINX_CONF: older.nginx_conf}
    if draft.api_keys is not None:
        files[names.API_KEYS_CONF] = draft.api_keys
    revision = digest((), *files.values())
    before, after = _in_folder(_DRAFT, ""), _in_folder(revision, "")
    return revision, {name: text.replace(before, after) for name, text in files.items()}


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


def _url(stack: Stack) -> str:
    """The gateway's HTTP entrance; in an existing site, the site's own address is not known here."""
    scheme = "https" if stack.gateway.tls else "http"
    return f"{scheme}://{bracketed(stack.gateway.public_host)}:{stack.gateway.http}"
