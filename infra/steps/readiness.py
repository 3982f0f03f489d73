"""Waits until a node is healthy: `python -m infra.steps.readiness wait`, declaration on stdin.

The request to the health route runs in the service's container: this computer may not reach the node's
addresses.
"""

import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator

from infra import node_health
from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.steps.limits import limit_processes
from infra.steps.run import run

_POLL_SECONDS = 1.0
#: A container that ends so often while the step waits has a fault that more time does not heal.
_CRASHES = 3
#: Images out of use that stay on a host, of each kind: the newest ones.
_KEPT_IMAGES = 2
_DOCKER_SECONDS = 60


class Readiness(Declaration, frozen=True, kw_only=True):
    """A node to wait for, at most `timeout` seconds.

    `avoided` are the seconds for which an existing nginx may avoid the node, which failed a moment ago.
    `built` are the repositories of images that are built for the stack; old ones are removed there. For the
    models `engines` Triton builds TensorRT engines, unless it finds them on the node. `service` is
    the name of its service's container, and `url` the health route as that container reaches it. An error
    shows the last log lines of `containers`. `pids` are limits of processes and threads, by container.
    """

    node: str
    connection: Connection
    service: str
    url: str
    containers: tuple[str, ...]
    timeout: int
    avoided: float = 0
    engines: tuple[str, ...] = ()
    built: tuple[str, ...] = ()
    pids: dict[str, int] | None = None


class NotReady(Exception):
    """The node did not become healthy; `str(error)` has the reason and its containers' last log lines."""


def wait(node: Readiness) -> None:
    """Wait until the node's health route answers 200 and the gateway sends it requests again.

    Raises NotReady.
    """
    began = time.monotonic()
    end = began + node.timeout
    engines = (
        f"the first load of {', '.join(node.engines)} on a GPU builds TensorRT engines, which takes minutes; "
        "later loads find them on the node"
        if node.engines
        else ""
    )
    if engines:
        print(f"node {node.node}: {engines}")
    reason = "the service's container does not run"
    crashed = ""
    first: dict[str, int] = {}
    for container, most in (node.pids or {}).items():
        limit_processes(node.connection, container, most)
    while not crashed and (left := end - time.monotonic()) > 0:
        try:
            result = node.connection.run(_ask(node, min(left, 20)), allowed=range(256), timeout=left + 10)
        except subprocess.TimeoutExpired:
            break
        if result.returncode == 0:
            # A later preview reads this from the state (infra/program/turns.py).
            _remove_old_images(node)
            print(f"node {node.node} was healthy after {time.monotonic() - began:.0f} s")
            time.sleep(node.avoided)
            return
        lines = result.stderr.strip().splitlines()
        reason = lines[-1] if lines else reason
        restarts = dict(_restarts(result.stdout))
        first = restarts | first
        crashed = next((name for name in restarts if restarts[name] - first[name] >= _CRASHES), "")
        time.sleep(min(_POLL_SECONDS, max(end - time.monotonic(), 0)))
    service_first = dict.fromkeys([crashed or node.service, node.service, *node.containers])
    logs = "\n".join(node_health.last_lines(node.connection, name) for name in service_first)
    verdict = (
        f"does not become healthy: {crashed} ends again and again"
        if crashed
        else f"is not healthy after {node.timeout} s"
    )
    raise NotReady(
        f"node {node.node} ({node.connection.host}) {verdict}: {reason}"
        + (f" ({engines}; rollout.readyTimeoutSeconds sets the time)" if engines and not crashed else "")
        + f"\n{logs}"
    )


def _ask(node: Readiness, seconds: float) -> str:
    """A script that waits for the health route; if it fails, it prints how often each container restarted."""
    names = " ".join(map(shlex.quote, node.containers))
    return (
        f"{node_health.ask(node.service, node.url, seconds)} && exit 0; status=$?;"
        f" docker inspect --format '{{{{.Name}}}} {{{{.RestartCount}}}}' {names} 2>/dev/null; exit $status"
    )


def _restarts(inspected: str) -> Iterator[tuple[str, int]]:
    """Container and number of restarts, from the output of the script of `_ask`."""
    for line in inspected.splitlines():
        name, _, count = line.rpartition(" ")
        if name.startswith("/") and count.isdigit():
            yield name[1:], int(count)


def _remove_old_images(node: Readiness) -> None:
    """Removes images of versions long gone: those in use and the newest others stay, for the way back."""
    for repository in node.built:
        script = (
            "used=$(docker ps --all --format '{{.Image}}');"
            ' docker images --format \'{{.Repository}}:{{.Tag}}\' "$1" | grep -vxF -e "$used" |'
            f" tail -n +{_KEPT_IMAGES + 1} | xargs -r docker rmi"
        )
        with contextlib.suppress(RemoteError, subprocess.TimeoutExpired):
            node.connection.run(script, repository, timeout=_DOCKER_SECONDS)


if __name__ == "__main__":
    sys.exit(run({"wait": (Readiness, wait)}, NotReady))
