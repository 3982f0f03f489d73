"""Waits until a gateway answers by its published port: `python -m infra.steps.entrance wait`.

The declaration comes on standard input. The request is made on the gateway's host, because this computer may
not reach that address.
"""

import shlex
import subprocess
import sys
import time

from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.steps.run import run

_POLL_SECONDS = 0.5
_ANSWER_SECONDS = 3
_LOG_LINES = 10


class Entrance(Declaration, frozen=True, kw_only=True):
    """A gateway, its nginx's container, and the health route as clients of its host reach it.

    `options` are those that `curl` needs for it. `timeout` is in seconds.
    """

    gateway: str
    connection: Connection
    container: str
    url: str
    options: tuple[str, ...]
    timeout: int


class Silent(Exception):
    """The gateway does not answer; `str(error)` has the reason and its container's last log lines."""


def wait(entrance: Entrance) -> None:
    """Waits until the gateway answers 200. Raises Silent."""
    began = time.monotonic()
    asked = ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "--max-time"]
    curl = shlex.join([*asked, str(_ANSWER_SECONDS), *entrance.options, entrance.url])
    # Where the host has no curl, nginx's image has one.
    inside = f"docker exec {shlex.quote(entrance.container)} {curl}"
    script = f"if command -v curl >/dev/null; then {curl}; else {inside}; fi"
    reason = ""
    while True:
        try:
            done = entrance.connection.run(script, allowed=range(255), timeout=_ANSWER_SECONDS + 10)
            if done.returncode == 0:
                print(f"{entrance.gateway} answers at {entrance.url}")
                return
            reason = next(iter(done.stderr.strip().splitlines()), f"status {done.returncode}")
        except (RemoteError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if time.monotonic() - began > entrance.timeout:
            break
        time.sleep(_POLL_SECONDS)
    raise Silent(
        f"{entrance.gateway} does not answer at {entrance.url} within {entrance.timeout} s: {reason}\n"
        + _errors(entrance)
    )


def _errors(entrance: Entrance) -> str:
    """The state of the container, and the last lines of nginx's error log."""
    name = shlex.quote(entrance.container)
    script = (
        f"docker inspect --format '{{{{.State.Status}}}}' {name};"
        f" docker logs --tail 200 {name} 2>&1 >/dev/null | tail -n {_LOG_LINES}"
    )
    try:
        done = entrance.connection.run(script, allowed=range(256), timeout=20)
    except subprocess.TimeoutExpired:
        return f"--- {entrance.container}: its log cannot be read: no answer"
    return f"--- {entrance.container}: {done.stdout.strip() or done.stderr.strip()}"


if __name__ == "__main__":
    sys.exit(run({"wait": (Entrance, wait)}, Silent))
