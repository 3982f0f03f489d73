"""Asks nodes on Docker hosts whether they serve now, each in its own service's container.

This computer may not reach the addresses of the nodes. Steps import this, so it imports neither Pulumi nor,
except for the type checker, the stack's types.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from inference_service import addresses
from infra import health_route, names
from infra.connection import Connection

if TYPE_CHECKING:
    from infra.stack import Node, Ssh, Stack

#: Runs in the service's container, which has Python but not this project.
WAIT = Path(health_route.__file__).read_text(encoding="utf-8")
#: The health route, as the service's container reaches it.
URL = f"http://{names.LOOPBACK}:{addresses.HTTP_PORT}/api/v1/ai/health"
#: The service's metrics, from there.
METRICS_URL = f"http://{names.LOOPBACK}:{addresses.HTTP_PORT}/metrics"

_MOST_AT_ONCE = 32
_LOG_LINES = 30
#: Beyond the time for the node: ssh, docker and the start of Python.
_MARGIN_SECONDS = 8


class NodeAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node, its host, and the names that its containers may have; `service` is that of its service."""

    node: str
    connection: Connection
    service: str
    containers: tuple[str, ...]


def address(stack: Stack, node: Node, ssh: Ssh) -> NodeAddress:
    """The address of a node on a Docker host, with SSH settings that fit the working directory."""
    service, *others = (names.container(stack, node, part) for part in names.NODE_PARTS)
    return NodeAddress(node.name, Connection.to(node.host, ssh), service, (service, *others))


def ask(service: str, url: str, seconds: float) -> str:
    """A script for the node's host that waits until `url` answers 200; its last line of errors is the
    reason."""
    return (
        f"docker exec {shlex.quote(service)} python -c {shlex.quote(WAIT)} {shlex.quote(url)} {seconds:.0f}"
    )


def problem(node: NodeAddress, seconds: float) -> str | None:
    """Why a node does not serve; None if its health route answers 200 within `seconds`."""
    return _problem(node, ask(node.service, URL, seconds), seconds)


def sickness(node: NodeAddress, seconds: float) -> str | None:
    """Why a node does not serve what is deployed; None also while one of its containers is starting.

    What an update put back is not what Pulumi's state says.
    """
    label = f'{{{{index .Config.Labels "{names.ROLLED_BACK_LABEL}"}}}}'
    back = f"docker inspect --format {shlex.quote(label)} {shlex.quote(node.service)} 2>/dev/null | grep -q :"
    said = "it runs what was deployed before an update that failed"
    inspect = "docker inspect --format '{{if .State.Health}}{{.State.Health.Status}}{{end}}'"
    starting = f"{inspect} {' '.join(map(shlex.quote, node.containers))} 2>/dev/null | grep -qx starting"
    script = f"! {back} || {{ echo {said!r} >&2; exit 1; }}; {ask(node.service, URL, seconds)} || {starting}"
    return _problem(node, script, seconds)


def _problem(node: NodeAddress, script: str, seconds: float) -> str | None:
    try:
        result = node.connection.run(script, allowed=range(256), timeout=seconds + _MARGIN_SECONDS)
    except subprocess.TimeoutExpired:
        return "no answer"
    if result.returncode == 0:
        return None
    lines = result.stderr.strip().splitlines()
    return lines[-1] if lines else "it does not answer"


def problems(nodes: Iterable[NodeAddress], seconds: float) -> dict[str, str]:
    """The nodes that do not serve, by name, with the reasons; all are asked at the same time."""
    return _each(nodes, lambda node: problem(node, seconds))


def sick(nodes: Iterable[NodeAddress], seconds: float) -> dict[str, str]:
    """The nodes that neither serve nor start, by name, with the reasons."""
    return _each(nodes, lambda node: sickness(node, seconds))


def _each(nodes: Iterable[NodeAddress], reason: Callable[[NodeAddress], str | None]) -> dict[str, str]:
    asked = list(nodes)
    if not asked:
        return {}
    with ThreadPoolExecutor(max_workers=min(len(asked), _MOST_AT_ONCE)) as pool:
        answers = zip(asked, pool.map(reason, asked), strict=True)
        return {node.node: why for node, why in answers if why is not None}


def last_lines(connection: Connection, container: str) -> str:
    """A container's state and its last log lines without those of health checks; if none, the reason."""
    name = shlex.quote(container)
    script = (
        f"docker inspect --format '{{{{.State.Status}}}}, exit code {{{{.State.ExitCode}}}}' {name};"
        f" docker logs --tail {10 * _LOG_LINES} {name} 2>&1 | grep -v '/health' | tail -n {_LOG_LINES}"
    )
    try:
        result = connection.run(script, allowed=range(256), timeout=20)
    except subprocess.TimeoutExpired:
        return f"--- {container}: its log cannot be read: no answer"
    text = result.stdout.strip() or result.stderr.strip()
    return f"--- the last lines of {container}: {text}"
