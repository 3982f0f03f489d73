"""The gateway's metrics for Prometheus, from the lines that nginx writes for requests.

The line's fields are those of the template of nginx's configuration: status, seconds, path, status of gRPC,
addresses of the nodes that were asked.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from inference_service.console.exposition import FAILURES

#: nginx before an update writes neither the status of gRPC nor the addresses.
_LINE = re.compile(rb"fleet: (\d{3}) (\d+\.\d+) (\S*)(?: (\S+) (.+))?$")
#: Requests that ask nothing of a model.
_NO_WORK = re.compile(rb"/(health|metrics|api/v1/ai/(health|info|docs|openapi)|docs|openapi|demo|console)|/$")
#: Seconds. From a small model's milliseconds to a long recording's minutes.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0)

#: Name, documentation and labels. `state` is serving, drained or skipped; a node not yet asked has no value.
NODE_HEALTHY = (
    "ai_gateway_node_healthy",
    "Whether the node is healthy, as seen from the gateway: 1 or 0.",
    ("node", "state"),
)
NODE_CERTIFICATE = (
    "ai_gateway_node_certificate_expires_seconds",
    "When the certificate of a node with TLS ends, in Unix time.",
    ("node",),
)
CERTIFICATE = (
    "ai_gateway_certificate_expires_seconds",
    "When the certificate of the gateway's HTTPS ends, in Unix time: 0 when it has ended.",
    (),
)
#: What the console tells beside the counters: name, documentation and labels.
SEEN = (NODE_HEALTHY, NODE_CERTIFICATE, CERTIFICATE)
#: gRPC's statuses by their number. The grpc package itself would take 10 MB of the process's memory.
_GRPC = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
#: A stream ends when its client does, so its time says nothing of the fleet.
_STREAMED = re.compile(rb"/grpc\.AIService/Stream")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the gateway has answered.

    `entrance` is http, websocket or grpc. `status` is that of HTTP, or gRPC's name of it; `upstream` the
    address of the node that was asked last, empty where the gateway answered alone; `retries` how many nodes
    were asked in vain before.
    """

    entrance: str
    status: str
    seconds: float
    upstream: str
    retries: int
    failed: bool
    refused: bool
    stream: bool


def parse(line: bytes) -> Request | None:
    """The request of a line; None for other lines and for requests that ask nothing of a model."""
    match = _LINE.search(line)
    if match is None or _NO_WORK.match(match[3]):
        return None
    # "0-" or "-14": nginx writes - for what is empty.
    code = (match[4] or b"").strip(b"-").decode(errors="replace")
    # "192.0.2.10:51312, 192.0.2.11:51312 : 192.0.2.12:51312"
    told = re.split(r"[,\s]+", (match[5] or b"").decode(errors="replace"))
    asked = [each for each in told if each not in ("", "-", ":")]
    status = match[1].decode()
    name = _grpc_name(code) if code else ""
    upgraded = status == "101"
    return Request(
        entrance="grpc" if code else "websocket" if upgraded else "http",
        status=name or status,
        seconds=float(match[2]),
        upstream=asked[-1] if asked else "",
        retries=max(len(asked) - 1, 0),
        failed=status.startswith("5") or name in FAILURES,
        refused=status == "429",
        stream=upgraded or _STREAMED.match(match[3]) is not None,
    )


def _grpc_name(code: str) -> str:
    return _GRPC[int(code)] if code.isdecimal() and int(code) < len(_GRPC) else "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the console sees it.

    `state` is serving, drained or skipped; `health` is healthy, unhealthy, down or unknown.
    """

    name: str
    state: str
    health: str
    certificate_ends: float | None = None


class GatewayMetrics:
    """The registry of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "ai_gateway_requests",
            "Requests for a model that the gateway answered, by the node that was asked last.",
            ["entrance", "status", "upstream"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "ai_gateway_request_seconds",
            "From a request's first byte at the gateway to its answer's last, without streams.",
            ["entrance"],
            buckets=BOUNDS,
            registry=self.registry,
        )
        self._retries = Counter(
            "ai_gateway_retries",
            "Nodes that were asked in vain before another one was asked.",
            registry=self.registry,
        )

    def count(self, request: Request) -> None:
        """Adds a request."""
        self._requests.labels(request.entrance, request.status, request.upstream).inc()
        if not request.stream:
            self._seconds.labels(request.entrance).observe(request.seconds)
        if request.retries:
            self._retries.inc(request.retries)

    def render(self, nodes: Iterable[Node], certificate_ends: float | None = None) -> bytes:
        """Prometheus text, with what the console knows now of the nodes and of the gateway's certificate."""
        return generate_latest(self.registry) + generate_latest(_Seen(nodes, certificate_ends))


class _Seen(CollectorRegistry):
    """What the console knows now."""

    def __init__(self, nodes: Iterable[Node], certificate_ends: float | None) -> None:
        super().__init__()
        healthy, ends, own = (GaugeMetricFamily(name, said, labels=labels) for name, said, labels in SEEN)
        for node in nodes:
            if node.health != "unknown":
                healthy.add_metric([node.name, node.state], float(node.health == "healthy"))
            if node.certificate_ends is not None:
                ends.add_metric([node.name], node.certificate_ends)
        if certificate_ends is not None:
            own.add_metric([], certificate_ends)
        self.register(_Once([healthy, ends, own]))


class _Once(Collector):
    """A collector of families that are there."""

    def __init__(self, families: list[GaugeMetricFamily]) -> None:
        self._families = families

    def collect(self) -> list[GaugeMetricFamily]:
        return self._families
