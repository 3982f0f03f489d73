"""How the parts of a stack are now: health and load of every node, and the gateway."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from subprocess import TimeoutExpired
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from infra import names, node_health
from infra.connection import Connection, RemoteError
from infra.gateway.plan import public_url
from infra.health_route import message
from infra.monitoring.parts import Part, parts
from infra.stack import Node, Stack

_SECONDS = 5
#: Beyond the time for the node: ssh, docker and the start of Python.
_MARGIN_SECONDS = 8
#: The sums of these are a node's load.
_LOAD = {
    "running": "ai_inferences_running",
    "queued": "ai_inferences_queued",
    "streams": "ai_streams_open",
    "requests": "ai_requests",
}
#: Runs in the service's container, which has Python but not this project.
_ASK = """
import sys, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2])) as answer:
        sys.stdout.buffer.write(answer.read())
except OSError as error:
    sys.exit(str(error))
"""


@dataclass(frozen=True, slots=True)
class PartState:
    """A node or the gateway: where it is, what it is for, whether it serves, and its load if that is known.

    `state` is healthy, drained, or a word of the failure and its reason after a colon.
    """

    name: str
    host: str
    role: str
    state: str
    address: str
    load: Mapping[str, int]

    @property
    def well(self) -> bool:
        return self.state in ("healthy", "drained")

    def as_json(self) -> dict[str, Any]:
        """The state for programs."""
        return {
            "name": self.name,
            "host": self.host,
            "role": self.role,
            "state": self.state,
            "address": self.address,
            **self.load,
        }


def states(stack: Stack) -> list[PartState]:
    """The state of each node, each gateway and each part of monitoring; all are asked at the same time."""
    asked: list[Callable[[], PartState]] = [
        *((lambda node=node: _node(stack, node)) for node in stack.nodes),
        *((lambda each=each: _gateway(each)) for each in stack.gateways),
        *((lambda part=part: _watching(stack, part)) for part in parts(stack)),
    ]
    with ThreadPoolExecutor(max_workers=min(len(asked), 32)) as pool:
        return list(pool.map(lambda ask: ask(), asked))


def load_of(metrics: str) -> dict[str, int]:
    """A node's load from its metrics: running and queued inferences, open streams, requests so far."""
    sums = dict.fromkeys(_LOAD, 0.0)
    keys = {metric: key for key, metric in _LOAD.items()}
    for family in text_string_to_metric_families(metrics):
        if (key := keys.get(family.name)) is not None:
            values = [each.value for each in family.samples if not each.name.endswith("_created")]
            sums[key] += sum(values)
    return {key: int(value) for key, value in sums.items()}


def _node(stack: Stack, node: Node) -> PartState:
    reason, metrics = _embedded(node) if node.embedded else _on_host(stack, node)
    state = "healthy" if reason is None else f"unhealthy: {reason}"
    if reason is None and node.drained:
        state = "drained"
    load = load_of(metrics) if metrics else {}
    return PartState(node.name, str(node.host), node.role, state, stack.node_url(node), load)


def _embedded(node: Node) -> tuple[str | None, str | None]:
    base = f"http://{names.LOOPBACK}:{node.ports.http}"
    reason = _fetched(f"{base}/api/v1/ai/health")[1]
    return reason, _fetched(f"{base}/metrics")[0]


def _on_host(stack: Stack, node: Node) -> tuple[str | None, str | None]:
    address = node_health.address(stack, node, stack.ssh)
    reason = node_health.problem(address, 0)
    if reason == "no answer":
        return reason, None
    try:
        done = address.connection.run(
            'docker exec "$1" python -c "$2" "$3" "$4"',
            address.service,
            _ASK,
            node_health.METRICS_URL,
            str(_SECONDS),
            allowed=range(256),
            timeout=_SECONDS + _MARGIN_SECONDS,
        )
    except (RemoteError, TimeoutExpired):
        return reason, None
    return reason, done.stdout if done.returncode == 0 else None


def _gateway(stack: Stack) -> PartState:
    gateway = stack.gateway
    url = public_url(stack)
    reason = _fetched(f"{url}/health")[1]
    state = "healthy" if reason is None else f"no answer: {reason}"
    return PartState(gateway.name, str(gateway.host), gateway.mode, state, url, {})


def _watching(stack: Stack, part: Part) -> PartState:
    """A part of monitoring, whose address its own host alone may reach."""
    host = stack.monitoring_host
    assert host is not None
    container = names.monitoring_container(stack, part.name)
    script = 'docker exec "$@" >/dev/null 2>&1 || docker inspect --format "{{.State.Status}}" -- "$1" 2>&1'
    try:
        done = Connection.to(host, stack.ssh).run(
            script, container, *part.ready, allowed=range(256), timeout=_SECONDS + _MARGIN_SECONDS
        )
    except TimeoutExpired:
        reason = "no answer"
    else:
        reason = (done.stdout + done.stderr).strip()
    state = f"no answer: {reason}" if reason else "healthy"
    return PartState(part.name, str(host), names.MONITORING, state, part.url, {})


def _fetched(url: str) -> tuple[str | None, str | None]:
    """The body of an answer with status 200; else the reason why there is none."""
    # The certificate names the public host, which need not be this address.
    context = ssl._create_unverified_context() if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS, context=context) as answer:
            return answer.read().decode(errors="replace"), None
    except urllib.error.HTTPError as error:
        return None, message(error.read()) or f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return None, str(getattr(error.reason, "strerror", None) or error.reason)
    except OSError as error:
        return None, error.strerror or str(error)
