"""Puts the gateway's configuration in place: `python -m infra.gateway.apply apply|remove`.

The declaration comes on standard input.

A configuration is tested by the nginx that is to use it before it is switched to; one that fails the test
changes nothing. `container`: each configuration is a folder of its own on the gateway's host and `current` is
a link to the one in use. `existing`: the stack's one file in the folder that the site's nginx includes.
"""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
import tarfile
from typing import Any

from infra.connection import Connection, RemoteError

# Where the container sees the folder of its configurations.
INSIDE = "/etc/gpu-inference"
# The same configuration without what an nginx that is still in use may not know.
OLDER_NGINX = "older-nginx.conf"


class Rejected(Exception):
    """nginx does not take the configuration; `str(error)` is nginx's own words."""


def apply(declared: dict[str, Any]) -> None:
    """Tests, switches and reloads. Raises Rejected, with nothing changed, and RemoteError."""
    if declared["mode"] == "container":
        _apply_container(declared)
    else:
        _apply_existing(declared)


def remove(declared: dict[str, Any]) -> None:
    """Takes the configuration away; in an existing site, puts back the file that was there before."""
    if declared["mode"] == "container":
        folder = shlex.quote(declared["folder"])
        script = f"rm -rf -- {folder} && rmdir -p --ignore-fail-on-non-empty -- $(dirname -- {folder})"
        Connection.of(declared["connection"]).run(script)
    else:
        _remove_existing(declared)


def reload(declared: dict[str, Any]) -> None:
    """Makes nginx, where it runs, read its configuration again and forget the failures that it counted."""
    match declared["mode"]:
        case "container":
            connection = Connection.of(declared["connection"])
            name = shlex.quote(declared["container"])
            connection.run(
                f'[ "$(docker inspect --format "{{{{.State.Running}}}}" {name} 2>/dev/null)" != true ]'
                f" || docker exec {name} nginx -c {INSIDE}/current/nginx.conf -s reload",
                timeout=30,
            )
        case "existing":
            connection = Connection.of(declared["connection"])
            live = shlex.quote(declared["file"])
            connection.run(f"[ ! -e {live} ] || {declared['nginx']} -s reload", timeout=30)
        case "embedded":
            from infra.embedded import apply as embedded
            from infra.embedded.layout import Layout

            embedded.reload_gateway(Layout.of(declared["stack"]))


def _apply_container(declared: dict[str, Any]) -> None:
    connection = Connection.of(declared["connection"])
    folder, revision = shlex.quote(declared["folder"]), declared["revision"]
    mounts = " ".join(f"-v {shlex.quote(f'{path}:{path}:ro')}" for path in declared["mounts"])
    connection.run(
        f"set -e; umask 077; mkdir -p {folder}/{revision}; tar -xf - --no-same-owner -C {folder}/{revision}",
        stdin=_archive(declared["files"]),
    )
    test = (
        f"docker run --rm --network bridge -v {folder}:{INSIDE}:ro {mounts}"
        f" --add-host host.docker.internal:host-gateway {shlex.quote(declared['image'])}"
        f" nginx -t -c {INSIDE}/{revision}/nginx.conf"
    )
    tested = connection.run(test, allowed=range(255))
    if tested.returncode != 0 and "unknown directive" in tested.stdout + tested.stderr:
        tested = connection.run(
            f"cd {folder}/{revision} && cp {OLDER_NGINX} nginx.conf && {test}", allowed=range(255)
        )
    if tested.returncode != 0:
        connection.run(f'[ "$(readlink {folder}/current)" = {revision} ] || rm -rf {folder}/{revision}')
        raise Rejected(_words(declared, tested.stdout + tested.stderr))
    connection.run(f"cd {folder} && ln -sfn {revision} .new && mv -T .new current")
    reload(declared)
    connection.run(
        f"cd {folder} && for old in *; do"
        f' case "$old" in current|{revision}) ;; *) rm -rf -- "$old";; esac; done'
    )


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


_PUT = """
set -e
live={live} backup={backup} before={before}
mkdir -p "$(dirname "$backup")"
[ -d "$(dirname "$live")" ] || {{ echo "there is no folder $(dirname "$live")" >&2; exit 1; }}
# What was there before this stack, once; an empty mark says that there was nothing.
if [ ! -e "$backup" ] && [ ! -e "$backup.none" ]; then
  if [ -e "$live" ]; then cp -p "$live" "$backup"; else : >"$backup.none"; fi
fi
rm -f "$before"
[ ! -e "$live" ] || cp -p "$live" "$before"
cat >"$live.new"
mv -f "$live.new" "$live"
"""

_RESTORE = """
set -e
live={live} before={before}
if [ -e "$before" ]; then mv -f "$before" "$live"; else rm -f "$live"; fi
"""

_TAKE_AWAY = """
set -e
live={live} backup={backup} before={before}
[ ! -e "$live" ] || cp -p "$live" "$before"
if [ -e "$backup" ]; then cp -p "$backup" "$live"; else rm -f "$live"; fi
"""

_FORGET = """
rm -f {backup} {backup}.none {before}
rmdir -p --ignore-fail-on-non-empty "$(dirname {backup})"
"""


def _existing(declared: dict[str, Any], script: str) -> str:
    folder = declared["folder"]
    names = {
        "live": declared["file"],
        "backup": f"{folder}/what-was-there.conf",
        "before": f"{folder}/before-this-update.conf",
    }
    return script.format(**{name: shlex.quote(path) for name, path in names.items()})


def _apply_existing(declared: dict[str, Any]) -> None:
    connection = Connection.of(declared["connection"])
    # nginx reads its configuration at a reload only: until the test has passed, nothing of this takes effect.
    connection.run(_existing(declared, _PUT), stdin=declared["servers"].encode())
    _tested_or_restored(connection, declared)
    connection.run(f"{declared['nginx']} -s reload")


def _remove_existing(declared: dict[str, Any]) -> None:
    connection = Connection.of(declared["connection"])
    connection.run(_existing(declared, _TAKE_AWAY))
    _tested_or_restored(connection, declared)
    connection.run(f"{declared['nginx']} -s reload")
    connection.run(_existing(declared, _FORGET))


def _tested_or_restored(connection: Connection, declared: dict[str, Any]) -> None:
    tested = connection.run(f"{declared['nginx']} -t", allowed=range(255))
    if tested.returncode != 0:
        connection.run(_existing(declared, _RESTORE))
        raise Rejected(_words(declared, tested.stdout + tested.stderr))


def _words(declared: dict[str, Any], said: str) -> str:
    where = declared["connection"]["host"]
    return (
        f"the gateway's nginx ({where}) does not take the configuration; nothing was changed:\n{said.strip()}"
    )


def main() -> int:
    """Runs one action on the declaration on standard input; returns the exit status."""
    actions = {"apply": apply, "remove": remove}
    try:
        actions[sys.argv[1]](json.load(sys.stdin))
    except (Rejected, RemoteError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
