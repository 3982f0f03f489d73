"""Waits until a node says that it is healthy: `python -m infra.steps.readiness wait`.

The declaration comes on standard input.

The node's own health route is asked inside its service's container, so that it does not matter which
addresses can be reached from here.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time

import msgspec

from infra.connection import Connection, RemoteError
from infra.gateway import reload
from infra.steps.declaration import Declaration
from infra.steps.run import run

_POLL_SECONDS = 1.0
_LOG_LINES = 30

_ASK = """
import json, sys, time, urllib.error, urllib.request
end, reason = time.monotonic() + float(sys.argv[2]), ""
while time.monotonic() < end:
    try:
        urllib.request.urlopen(sys.argv[1], timeout=5).read()
        sys.exit(0)
    except urllib.error.HTTPError as error:
        try:
            reason = json.loads(error.read())["message"]
        except (ValueError, KeyError, TypeError):
            reason = f"HTTP {error.code}"
    except OSError as error:
        reason = "the service does not answer yet"
    time.sleep(0.5)
sys.exit(reason or "the service does not answer")
"""


class Reload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the gateway is made to forget the failures that it counted: a script for its host."""

    connection: Connection
    script: str


class Readiness(Declaration, frozen=True, kw_only=True):
    """A node that is to become healthy.

    `service` is the name of its service's container, `containers` are those whose last log lines explain a
    failure, `url` is the health route as the service's container reaches it. The node may take `timeout`
    seconds.
    """

    node: str
    connection: Connection
    service: str
    url: str
    containers: tuple[str, ...]
    timeout: int
    gateway: Reload


class NotReady(Exception):
    """The node is not healthy in time; `str(error)` has the reason and its containers' last log lines."""


def wait(node: Readiness) -> None:
    """Waits until the node's health route answers 200, then makes the gateway forget the node's failures.

    Raises NotReady.
    """
    end = time.monotonic() + node.timeout
    reason = "the service's container does not run"
    while (left := end - time.monotonic()) > 0:
        try:
            asked = node.connection.run(
                f"docker exec {shlex.quote(node.service)} python -c {shlex.quote(_ASK)} "
                f"{shlex.quote(node.url)} {min(left, 20):.0f}",
                allowed=range(256),
                timeout=left + 10,
            )
        except subprocess.TimeoutExpired:
            break
        if asked.returncode == 0:
            _reload_gateway(node.gateway)
            return
        said = asked.stderr.strip().splitlines()
        reason = said[-1] if said else reason
        time.sleep(min(_POLL_SECONDS, max(end - time.monotonic(), 0)))
    logs = "\n".join(last_lines(node.connection, name) for name in _service_first(node))
    raise NotReady(
        f"node {node.node} ({node.connection.host}) is not healthy after {node.timeout} s: {reason}\n{logs}"
    )


def _service_first(node: Readiness) -> list[str]:
    return [node.service, *(name for name in node.containers if name != node.service)]


def last_lines(connection: Connection, container: str) -> str:
    """A container's state and its last log lines but those of health checks, or why they cannot be had."""
    name = shlex.quote(container)
    script = (
        f"docker inspect --format '{{{{.State.Status}}}}, exit code {{{{.State.ExitCode}}}}' {name};"
        f" docker logs --tail {10 * _LOG_LINES} {name} 2>&1 | grep -v '/health' | tail -n {_LOG_LINES}"
    )
    try:
        said = connection.run(script, allowed=range(256), timeout=20)
    except subprocess.TimeoutExpired:
        return f"--- {container}: its log cannot be read: no answer"
    text = said.stdout.strip() or said.stderr.strip()
    return f"--- the last lines of {container}: {text}"


def _reload_gateway(gateway: Reload) -> None:
    try:
        gateway.connection.run(gateway.script, timeout=reload.SECONDS)
    except (RemoteError, subprocess.TimeoutExpired) as error:
        # The node is healthy; a gateway that cannot be reloaded notices that by itself a little later.
        print(f"the gateway was not reloaded: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run({"wait": (Readiness, wait)}, NotReady))
