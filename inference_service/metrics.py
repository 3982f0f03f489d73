"""Prometheus metrics: one set for every entrance, correct over all workers of the node.

Several workers write to files in PROMETHEUS_MULTIPROC_DIR, which `supervisor` sets before this module is
imported. Any of them renders the sum.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client import multiprocess as _multiprocess

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Seconds. From a small model's milliseconds to a long recording's minutes.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0)

REQUESTS = Counter("ai_requests", "Requests answered.", ["entrance", "route", "status"])
REQUEST_SECONDS = Histogram(
    "ai_request_seconds",
    "From a request's first byte to its answer.",
    ["entrance", "route"],
    buckets=_SECONDS,
)
IN_FLIGHT = Gauge(
    "ai_requests_in_flight", "Requests being answered.", ["entrance"], multiprocess_mode="livesum"
)
QUEUE_SECONDS = Histogram("ai_queue_seconds", "Time that inferences waited for a slot.", buckets=_SECONDS)
REFUSED = Counter("ai_inferences_refused", "Inferences refused because the node was full.", ["reason"])
RUNTIME_SECONDS = Histogram(
    "ai_runtime_seconds", "Time in the runtime.", ["runtime", "task", "outcome"], buckets=_SECONDS
)
AUDIO_SECONDS = Counter("ai_audio_seconds", "Audio that was inferred.", ["task"])

READY = Gauge(
    "ai_ready",
    "Whether the runtime and every configured model can answer: 1 or 0.",
    multiprocess_mode="livemostrecent",
)
STARTED = Gauge(
    "ai_start_time_seconds", "When the service was started, in Unix time.", multiprocess_mode="livemin"
)

RUNNING = Gauge("ai_inferences_running", "Inferences that hold a slot.", multiprocess_mode="livesum")
QUEUED = Gauge("ai_inferences_queued", "Inferences that wait for a slot.", multiprocess_mode="livesum")

BYTES_HELD = Gauge(
    "ai_bytes_held",
    "Bytes of request bodies, decoded audio and stream buffers, of server.byte_budget.",
    multiprocess_mode="livesum",
)

STREAMS_OPEN = Gauge("ai_streams_open", "Open audio streams.", multiprocess_mode="livesum")
STREAM_LAG = Histogram(
    "ai_stream_lag_seconds",
    "From the moment when a result of a stream was due, its audio there, to the result.",
    ["result"],  # partial or final
    buckets=_SECONDS,
)

RECORDINGS_RUNNING = Gauge(
    "ai_recordings_running", "Long recordings that are recognised in windows.", multiprocess_mode="livesum"
)
RECORDINGS_QUEUED = Gauge(
    "ai_recordings_queued", "Long recordings that wait for their turn.", multiprocess_mode="livesum"
)


@dataclass(slots=True)
class Answer:
    """The outcome of a measured request. The entrance sets `status` (an HTTP or gRPC status), and `route` if
    it is known only later."""

    route: str
    status: str = "unknown"


@contextmanager
def request(entrance: str, route: str) -> Iterator[Answer]:
    """Count and time one request at `entrance` (http, grpc, websocket). `route` must be one of a few
    names."""
    answer = Answer(route)
    begun = perf_counter()
    try:
        with IN_FLIGHT.labels(entrance).track_inprogress():
            yield answer
    finally:
        REQUEST_SECONDS.labels(entrance, answer.route).observe(perf_counter() - begun)
        REQUESTS.labels(entrance, answer.route, answer.status).inc()


def render() -> bytes:
    """All metrics of the node as Prometheus text. Reads files: call it in a thread."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    _multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
