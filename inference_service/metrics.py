"""Prometheus metrics: one set for every entrance, correct over all workers of the node.

Several workers write to files in PROMETHEUS_MULTIPROC_DIR, which `supervisor` sets before this module is
imported. Any of them renders the sum.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
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
QUEUE_SECONDS = Histogram("ai_queue_seconds", "Time that inferences waited for a place.", buckets=_SECONDS)
REFUSED = Counter("ai_inferences_refused", "Inferences refused because the node was full.", ["reason"])
RUNTIME_SECONDS = Histogram(
    "ai_runtime_seconds", "Time in the runtime.", ["runtime", "task", "outcome"], buckets=_SECONDS
)
AUDIO_SECONDS = Counter("ai_audio_seconds", "Audio that was inferred.", ["task"])

#: Seconds after which other workers see a level's change.
_HOLD = 0.2


class Level:
    """A gauge of a current number, written a little after it changed.

    Every request changes several of them twice, and each write costs a lock and a file access.
    """

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._now = 0
        self._writing: asyncio.TimerHandle | None = None
        _levels.append(self)

    def change(self, by: int) -> None:
        """Add `by`. Call it in the event loop."""
        self._now += by
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(_HOLD, self._write_changed)

    def write(self) -> None:
        """Write the gauge now."""
        self._gauge.set(self._now)

    def _write_changed(self) -> None:
        self._writing = None
        self.write()


_levels: list[Level] = []

RUNNING = Level(Gauge("ai_inferences_running", "Inferences that hold a place.", multiprocess_mode="livesum"))
QUEUED = Level(
    Gauge("ai_inferences_queued", "Inferences that wait for a place.", multiprocess_mode="livesum")
)

# `labels` takes a lock and builds a key at every call, and there are few label sets.
_request_counter = lru_cache(maxsize=1024)(REQUESTS.labels)
_request_histogram = lru_cache(maxsize=256)(REQUEST_SECONDS.labels)
runtime_seconds = lru_cache(maxsize=256)(RUNTIME_SECONDS.labels)
audio_seconds = lru_cache(maxsize=16)(AUDIO_SECONDS.labels)


@lru_cache(maxsize=16)
def _in_flight(entrance: str) -> Level:
    return Level(IN_FLIGHT.labels(entrance))


class Answer:
    """The outcome of a measured request. The entrance sets `status` (an HTTP or gRPC status), and `route` if
    it is known only later."""

    __slots__ = ("route", "status")

    def __init__(self, route: str) -> None:
        self.route = route
        self.status = "unknown"


@contextmanager
def request(entrance: str, route: str) -> Iterator[Answer]:
    """Count and time one request at `entrance` (http, grpc, websocket). `route` must be one of a few
    names."""
    answer = Answer(route)
    in_flight = _in_flight(entrance)
    in_flight.change(1)
    begun = perf_counter()
    try:
        yield answer
    finally:
        in_flight.change(-1)
        _request_histogram(entrance, answer.route).observe(perf_counter() - begun)
        _request_counter(entrance, answer.route, answer.status).inc()


def render() -> bytes:
    """All metrics of the node as Prometheus text. Reads files: call it in a thread."""
    for level in _levels:
        level.write()
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    _multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


def forget_worker(pid: int) -> None:
    """Drop the gauges of a worker that has ended. Its counts stay in the sums."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        _multiprocess.mark_process_dead(pid)
