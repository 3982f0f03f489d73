"""Sets up what watches a fleet: `python -m infra.steps.monitoring prepare|remove|apply|wait`.

The declaration comes on standard input. Each part has a folder on the host of monitoring with its
configurations, of which `current` is a link to the one in use, and its data. The part's own image tests a
configuration before the switch to it; a configuration that fails the test changes nothing.
"""

import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from infra import names, node_health
from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.digest import digest
from infra.monitoring.folders import APPLIED, CONFIGURATIONS, DATA, DIGESTS
from infra.steps.archive import archive
from infra.steps.limits import limit_processes
from infra.steps.run import run

#: The owner of the folder, and the user in the container, where the login is root.
_OWNER = "1000:1000"
_SECONDS = 60
_POLL_SECONDS = 1.0
#: A container without a question of its own must run for so long.
_STEADY_SECONDS = 3.0

_MAKE = f"""
set -e; umask 077; mkdir -p -- "$1/{CONFIGURATIONS}" "$1/{DATA}"
[ "$(id -u)" != 0 ] || chown {_OWNER} -- "$1" "$1/{CONFIGURATIONS}" "$1/{DATA}"
"""
# The argument: the folder. Prints who owns it: that user runs the container, so that it reads its
# configuration, which has secrets, and nobody else does.
_PREPARE = f'{_MAKE}stat -c %u:%g -- "$1"'
_MADE = "made"
# The arguments: the folder and the revision. Root unpacks what the folder's owner is to read. Where somebody
# removed the folder, this makes it again and says so.
_UNPACK = f"""
[ -d "$1/{CONFIGURATIONS}" ] && [ -d "$1/{DATA}" ] || echo {_MADE}
{_MAKE}
cd -- "$1/{CONFIGURATIONS}"; rm -rf -- "$2"; mkdir -- "$2"
tar -xf - --no-same-owner -C "$2"
[ "$(id -u)" != 0 ] || chown -R "$(stat -c %u:%g .)" -- "$2"
"""
# The arguments: the folder, the revision, the image, and the command. It reads the network of nobody.
_TEST = f"""
folder="$1/{CONFIGURATIONS}" revision="$2" image="$3" program="$4"; shift 4
exec docker run --rm --network none --read-only --cap-drop ALL --user "$(stat -c %u:%g "$folder")" \
  -v "$folder:{names.MONITORING_MOUNT}:ro" -w "{names.MONITORING_MOUNT}/$revision" \
  --entrypoint "$program" "$image" "$@"
"""
_SWITCH = f"""
set -e; umask 077; cd -- "$1/{CONFIGURATIONS}"
(printf '%s\\n' "$2"; cd -- "$2"; {DIGESTS}) >"../{APPLIED}.new"; mv -f -- "../{APPLIED}.new" "../{APPLIED}"
ln -sfn -- "$2" .new; mv -fT .new {names.CURRENT}
for old in *; do case "$old" in {names.CURRENT}|"$2") ;; *) rm -rf -- "$old";; esac; done
"""


class Folder(Declaration, frozen=True, kw_only=True):
    """The folder of a part."""

    connection: Connection
    folder: str


class Files(Declaration, frozen=True, kw_only=True):
    """The configuration of a part: `files` by path. `check` is the command that tests them in `image`, with
    their folder as the working directory. The `container`, if it runs, gets them by SIGHUP, or starts again
    with `restart`."""

    connection: Connection
    folder: str
    container: str
    image: str
    files: dict[str, str]
    check: tuple[str, ...] = ()
    restart: bool = False


class Ready(Declaration, frozen=True, kw_only=True):
    """A container to wait for, at most `timeout` seconds, until `ask` succeeds in it; without it, until it
    runs steadily. It may have `pids` processes and threads."""

    connection: Connection
    container: str
    ask: tuple[str, ...]
    timeout: int
    pids: int


class Rejected(Exception):
    """The configuration failed its test; `str(error)` has what the program said."""


class NotReady(Exception):
    """The container does not serve; `str(error)` has the reason and its last log lines."""


def prepare(part: Folder) -> None:
    """Makes the folder and prints the user and group that own it. Raises RemoteError."""
    print(part.connection.run(_PREPARE, part.folder, timeout=_SECONDS).stdout.strip(), end="")


def remove(part: Folder) -> None:
    """Removes the folder with all that the part kept. Raises RemoteError."""
    part.connection.remove_folder(part.folder)


def apply(part: Files) -> None:
    """Tests and switches; a running container reads the files. Raises Rejected, with nothing changed, and
    RemoteError."""
    connection, folder = part.connection, part.folder
    revision = digest((), *(text for pair in sorted(part.files.items()) for text in pair))
    link = connection.run('readlink -- "$1" || :', f"{folder}/{CONFIGURATIONS}/{names.CURRENT}")
    in_use = link.stdout.strip()
    unpacked = connection.run(_UNPACK, folder, revision, stdin=archive(part.files), timeout=_SECONDS)
    if part.check:
        tested = connection.run(_TEST, folder, revision, part.image, *part.check, allowed=range(255))
        if tested.returncode != 0:
            if revision != in_use:
                connection.run('rm -rf -- "$1"', f"{folder}/{CONFIGURATIONS}/{revision}")
            raise Rejected(f"{connection.host}: {part.check[0]} refuses it: {tested.stdout}{tested.stderr}")
    connection.run(_SWITCH, folder, revision, timeout=_SECONDS)
    if _runs(part):
        # A container keeps the folder that somebody removed until it starts again.
        restart = part.restart or _MADE in unpacked.stdout
        command = "docker restart" if restart else "docker kill --signal HUP"
        connection.run(f"{command} {shlex.quote(part.container)}", timeout=_SECONDS)
    # After each run, also one that writes the same again, the container is asked whether it serves.
    print(f"revision {revision} run {secrets.token_hex(8)}")


def _runs(part: Files) -> bool:
    asked = f"docker inspect --format '{{{{.State.Running}}}}' {shlex.quote(part.container)} 2>/dev/null"
    return part.connection.run(asked, allowed=range(255), timeout=_SECONDS).stdout.strip() == "true"


def wait(part: Ready) -> None:
    """Waits until the container serves. Raises NotReady."""
    name = shlex.quote(part.container)
    limit_processes(part.connection, part.container, part.pids)
    began = time.monotonic()
    if part.ask:
        script = f"docker exec {name} {shlex.join(part.ask)}"
    else:
        state = "docker inspect --format '{{.State.Status}} {{.RestartCount}}'"
        script = (
            f"before=$({state} {name}) && sleep {_STEADY_SECONDS:.0f} && after=$({state} {name}) &&"
            f' case "$after" in "running "*) [ "$before" = "$after" ];; *) false;; esac ||'
            ' { echo "it does not stay running: $after" >&2; exit 1; }'
        )
    reason = ""
    while (left := part.timeout - (time.monotonic() - began)) > 0:
        try:
            done = part.connection.run(script, allowed=range(256), timeout=left + 5)
        except subprocess.TimeoutExpired:
            reason = "no answer"
            break
        if done.returncode == 0:
            print(f"{part.container} serves after {time.monotonic() - began:.0f} s")
            return
        reason = next(reversed((done.stderr + done.stdout).strip().splitlines()), f"status {done.returncode}")
        time.sleep(_POLL_SECONDS)
    raise NotReady(
        f"{part.container} ({part.connection.host}) does not serve after {part.timeout} s: {reason}\n"
        + node_health.last_lines(part.connection, part.container)
    )


if __name__ == "__main__":
    actions: dict[str, tuple[Any, Callable[[Any], None]]] = {
        "prepare": (Folder, prepare),
        "remove": (Folder, remove),
        "apply": (Files, apply),
        "wait": (Ready, wait),
    }
    sys.exit(run(actions, Rejected, NotReady, RemoteError, subprocess.TimeoutExpired))
