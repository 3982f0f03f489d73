"""What a stack's gateway is declared as: pure functions from the stack to what `apply` puts in place."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Set
from pathlib import PurePosixPath
from typing import Any

from infra.connection import Connection
from infra.gateway.entrance import entrance, upstreams
from infra.gateway.render import Paths, Site, render_servers, render_site, servers_file_name
from infra.stack import Stack
from infra.stack.hosts import bracketed
from infra.steps.existing_site import PATTERN
from infra.steps.gateway import INSIDE, OLDER_NGINX

# The ports inside the container; those outside are the stack's.
HTTP_PORT, GRPC_PORT = 8080, 9080
_REVISION_LENGTH = 16


def site(stack: Stack, revision: str, away: Set[str] = frozenset()) -> Site:
    """The container's whole nginx. `revision` names the folder of this configuration."""
    return Site(
        **entrance(stack, away),
        http=HTTP_PORT,
        grpc=GRPC_PORT,
        paths=Paths(api_keys=f"{INSIDE}/{revision}/api_keys.conf"),
    )


def target(stack: Stack, connection: Connection | None) -> dict[str, Any]:
    """What `reload` has to know: which nginx, and how it is reached."""
    gateway = stack.gateway
    if gateway.mode == "embedded" or connection is None:
        return {"mode": "embedded", "stack": stack.name}
    found = {
        "mode": gateway.mode,
        "connection": connection.declare(),
        "folder": str(PurePosixPath(stack.remote_dir) / stack.name / "gateway"),
    }
    if gateway.mode == "container":
        return {**found, "container": f"{stack.name}-gateway"}
    return {
        **found,
        "stack": stack.name,
        "file": str(PurePosixPath(gateway.conf_dir) / servers_file_name(stack.name)),
        "nginx": gateway.nginx,
    }


def configuration(stack: Stack, connection: Connection, away: Set[str] = frozenset()) -> dict[str, Any]:
    """What `apply` puts in place for the modes `container` and `existing`."""
    found = target(stack, connection)
    if stack.gateway.mode == "existing":
        return {
            **found,
            "sets_aside": str(PurePosixPath(stack.gateway.conf_dir) / PATTERN),
            "servers": render_servers(stack.name, upstreams(stack, away)),
        }
    # The folder is named by its content, which names the folder: the digest is of the content under one fixed
    # name.
    draft = render_site(site(stack, "revision", away))
    text = f"{draft.nginx_conf}\0{draft.api_keys or ''}"
    revision = hashlib.sha256(text.encode()).hexdigest()[:_REVISION_LENGTH]
    rendered = render_site(site(stack, revision, away))
    older = dataclasses.replace(site(stack, revision, away), keeps_connections=False)
    files = {"nginx.conf": rendered.nginx_conf, OLDER_NGINX: render_site(older).nginx_conf}
    if rendered.api_keys is not None:
        files["api_keys.conf"] = rendered.api_keys
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
