"""Puts the gateway's configuration in place: `python -m infra.steps.gateway apply|remove`.

The declaration comes on standard input.

A configuration is tested by the nginx that is to use it before it is switched to; one that fails the test
changes nothing. `container`: each configuration is a folder of its own on the gateway's host and `current` is
a link to the one in use. `existing`: the stack's one file in the folder that the site's nginx includes
(`existing.py`).
"""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import tarfile
from typing import Any

from infra import names
from infra.connection import Connection, RemoteError
from infra.steps import existing_site as existing
from infra.steps.rejected import Rejected
from infra.steps.run import run


def apply(declared: dict[str, Any]) -> None:
    """Tests, switches and reloads. Raises Rejected, with nothing changed, and RemoteError."""
    if declared["mode"] == "container":
        _apply_container(declared)
    else:
        for name in existing.apply(declared):
            print(f"set aside while the stack is deployed: {name}")


def remove(declared: dict[str, Any]) -> None:
    """Takes the configuration away; in an existing site, puts back the file that was there before."""
    if declared["mode"] == "container":
        Connection.of(declared["connection"]).remove_folder(declared["folder"])
    else:
        existing.remove(declared)


def reload(declared: dict[str, Any]) -> None:
    """Makes nginx, where it runs, read its configuration again and forget the failures that it counted."""
    match declared["mode"]:
        case "container":
            connection = Connection.of(declared["connection"])
            name = shlex.quote(declared["container"])
            connection.run(
                f'[ "$(docker inspect --format "{{{{.State.Running}}}}" {name} 2>/dev/null)" != true ]'
                f" || docker exec {name} nginx -c {names.mounted_nginx_conf()} -s reload",
                timeout=30,
            )
        case "existing":
            existing.reload(declared)
        case "embedded":
            from infra.embedded.gateway import reload_gateway
            from infra.embedded.layout import Layout

            reload_gateway(Layout.of(declared["stack"]))


def _apply_container(declared: dict[str, Any]) -> None:
    connection = Connection.of(declared["connection"])
    folder, revision = shlex.quote(declared["folder"]), declared["revision"]
    mounts = " ".join(f"-v {shlex.quote(f'{path}:{path}:ro')}" for path in declared["mounts"])
    connection.run(
        f"set -e; umask 077; mkdir -p {folder}/{revision}; tar -xf - --no-same-owner -C {folder}/{revision}",
        stdin=_archive(declared["files"]),
    )
    test = (
        f"docker run --rm --network bridge -v {folder}:{names.CONFIGURATIONS_MOUNT}:ro {mounts}"
        f" --add-host host.docker.internal:host-gateway {shlex.quote(declared['image'])}"
        f" nginx -t -c {names.mounted_nginx_conf(revision)}"
    )
    tested = connection.run(test, allowed=range(255))
    if tested.returncode != 0 and "unknown directive" in tested.stdout + tested.stderr:
        tested = connection.run(
            f"cd {folder}/{revision} && cp {names.OLDER_NGINX_CONF} {names.NGINX_CONF} && {test}",
            allowed=range(255),
        )
    if tested.returncode != 0:
        connection.run(
            f'[ "$(readlink {folder}/{names.CURRENT})" = {revision} ] || rm -rf {folder}/{revision}'
        )
        raise Rejected(declared, tested.stdout + tested.stderr)
    connection.run(f"cd {folder} && ln -sfn {revision} .new && mv -T .new {names.CURRENT}")
    if _sees_mounts(connection, declared):
        reload(declared)
    connection.run(
        f"cd {folder} && for old in *; do"
        f' case "$old" in {names.CURRENT}|{revision}) ;; *) rm -rf -- "$old";; esac; done'
    )


def _sees_mounts(connection: Connection, declared: dict[str, Any]) -> bool:
    """Whether the running container has all folders that the configuration reads.

    One without a new certificate's folder is replaced after this, and could not read the configuration.
    """
    name = shlex.quote(declared["container"])
    form = "{{range .Mounts}}{{println .Destination}}{{end}}"
    seen = connection.run(f"docker inspect --format '{form}' {name}", allowed=range(255))
    return set(declared["mounts"]) <= set(seen.stdout.splitlines())


def _archive(files: dict[str, str]) -> bytes:
    """The files of a configuration; only the host's owner of them may read them."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            data = text.encode()
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(run({"apply": apply, "remove": remove}, Rejected, RemoteError, subprocess.TimeoutExpired))
