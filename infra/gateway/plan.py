"""What a stack's gateway is declared as: pure functions from the stack to what `apply` puts in place."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Set
from pathlib import PurePosixPath
from typing import Any

from infra import names
from infra.connection import Connection
from infra.gateway.entrance import entrance, upstreams
from infra.gateway.render import Paths, Site, render_servers, render_site
from infra.stack import Stack
from infra.stack.hosts import bracketed

_REVISION_LENGTH = 16


def site(stack: Stack, revision: str, away: Set[str] = frozenset()) -> Site:
    """The container's whole nginx. `revision` names the folder of this configuration."""
    return Site(
        **entrance(stack, away),
        http=names.GATEWAY_HTTP_PORT,
        grpc=names.GATEWAY_GRPC_PORT,
        paths=Paths(api_keys=f"{names.CONFIGURATIONS_MOUNT}/{revision}/{names.API_KEYS_CONF}"),
    )


def target(stack: Stack, connection: Connection | None) -> dict[str, Any]:
    """What `reload` has to know: which nginx, and how it is reached."""
    gateway = stack.gateway
    if gateway.mode == "embedded" or connection is None:
        return {"mode": "embedded", "stack": stack.name}
    found = {
        "mode": gateway.mode,
        "connection": connection.declare(),
        "folder": names.gateway_folder(stack),
    }
    if gateway.mode == "container":
        return {**found, "container": names.gateway_container(stack)}
    return {
        **found,
        "stack": stack.name,
        "file": str(PurePosixPath(gateway.conf_dir) / names.upstream_file(stack.name)),
        "nginx": gateway.nginx,
    }


def configuration(stack: Stack, connection: Connection, away: Set[str] = frozenset()) -> dict[str, Any]:
    """What `apply` puts in place for the modes `container` and `existing`."""
    found = target(stack, connection)
    if stack.gateway.mode == "existing":
        return {
            **found,
            "sets_aside": str(PurePosixPath(stack.gateway.conf_dir) / names.UPSTREAM_FILES),
            "servers": render_servers(stack.name, upstreams(stack, away)),
        }
    # The folder is named by its content, which names the folder: the digest is of the content under one fixed
    # name.
    draft = render_site(site(stack, "revision", away))
    text = f"{draft.nginx_conf}\0{draft.api_keys or ''}"
    revision = hashlib.sha256(text.encode()).hexdigest()[:_REVISION_LENGTH]
    rendered = render_site(site(stack, revision, away))
    older = dataclasses.replace(site(stack, revision, away), keeps_connections=False)
    files = {
        names.NGINX_CONF: rendered.nginx_conf,
        names.OLDER_NGINX_CONF: render_site(older).nginx_conf,
    }
    if rendered.api_keys is not None:
        files[names.API_KEYS_CONF] = rendered.api_keys
    return {
        **found,
        "image": stack.gateway.image,
        "mounts": tls_folders(stack),
        "revision": revision,
        "files": files,
    }


def tls_folders(stack: Stack) -> list[str]:
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


def url(stack: Stack) -> str:
    """The gateway's HTTP entrance; in an existing site, the site's own address is not known here."""
    scheme = "https" if stack.gateway.tls else "http"
    return f"{scheme}://{bracketed(stack.gateway.public_host)}:{stack.gateway.http}"
