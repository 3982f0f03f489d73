"""Traces of requests (OpenTelemetry): what the entrances and the engine call, with or without traces.

A request has one server span. Its work has child spans (`queue`, `decode`, `inference`), or, where there
would be one every second, events. Nothing that a client said or sent is in them. Outside of a traced request
each function costs one look at a context variable. `tracing.otlp` imports OpenTelemetry, and is imported only
where `server.traces.endpoint` is set.
"""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib.util import find_spec
from typing import TypeVar

from inference_service.settings import Settings
from inference_service.tracing.spans import Answer, Trace, Tracer, Value

_T = TypeVar("_T")

#: Seconds for which the end of a process waits for spans that are not sent yet.
STOP_SECONDS = 3.0

_tracer: Tracer | None = None
_current: ContextVar[Trace | None] = ContextVar("trace", default=None)
_arrived: ContextVar[int | None] = ContextVar("arrived", default=None)
_NOTHING: AbstractContextManager[None] = nullcontext()


def missing(settings: Settings) -> str | None:
    """What to install where the settings want traces and OpenTelemetry is not there; else None."""
    if settings.server.traces.endpoint is None:
        return None
    try:
        found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found:
        return None
    return (
        "server.traces.endpoint: traces need OpenTelemetry, which is not installed; install the extra otel "
        "(pip install 'gpu-inference-fleet[service,otel]'), or leave the setting out"
    )


def start(settings: Settings) -> None:
    """Begin to trace this process's requests, if the settings want that."""
    global _tracer
    if settings.server.traces.endpoint is None:
        return
    from inference_service.tracing.otlp import OtlpTracer

    _tracer = OtlpTracer(settings.server.traces)


def stop() -> None:
    """End it: send what is left, within `STOP_SECONDS`."""
    global _tracer
    tracer, _tracer = _tracer, None
    if tracer is not None:
        tracer.stop(STOP_SECONDS)


def request(
    entrance: str, answer: Answer, request_id: str, find: Callable[[str], str | None]
) -> AbstractContextManager[Trace | None]:
    """The server span of a request, while the context lasts. `find` returns a header of the client's."""
    if _tracer is None:
        return _NOTHING
    return _request(_tracer, entrance, answer, request_id, find)


def arrived() -> None:
    """The request that this task will trace began now."""
    if _tracer is not None:
        _arrived.set(time.time_ns())


def span(name: str, **attributes: Value) -> AbstractContextManager[Trace | None]:
    """A child span of the running one, while the context lasts; None outside of a traced request."""
    trace = _current.get()
    return _NOTHING if trace is None else _span(trace, name, attributes)


def inference(
    model: str | None, task: str, runtime: str, seconds: float
) -> AbstractContextManager[Trace | None]:
    """The span of one inference, of so many seconds of audio; its request's span names the model, too."""
    if _current.get() is None:
        return _NOTHING
    note("ai.model", model or "")
    audio = round(seconds, 3)
    attributes: dict[str, Value] = {
        "ai.model": model or "",
        "ai.task": task,
        "ai.runtime": runtime,
        "ai.audio_seconds": audio,
    }
    return span("inference", **attributes)


async def as_event(name: str, work: Awaitable[_T]) -> _T:
    """Do `work` with one event of the request's span in place of all its spans; in a task of its own."""
    trace = _current.get()
    if trace is None:
        return await work
    begun = time.perf_counter()
    _current.set(None)
    try:
        return await work
    finally:
        trace.event(name, {"ai.milliseconds": round(1000 * (time.perf_counter() - begun), 3)})


def note(name: str, value: Value) -> None:
    """Set an attribute of the request's span."""
    if (trace := _current.get()) is not None:
        trace.note(name, value)


def headers(*, sampled_only: bool = False) -> dict[str, str]:
    """`traceparent` and `tracestate` for a call on behalf of the running request; none outside of one.

    `sampled_only`: none either where nobody keeps the request's trace.
    """
    trace = _current.get()
    return {} if trace is None else trace.headers(sampled_only=sampled_only)


def trace_id() -> str | None:
    """The running request's trace, as 32 hexadecimal digits."""
    trace = _current.get()
    return None if trace is None else trace.trace_id


@contextmanager
def _request(
    tracer: Tracer, entrance: str, answer: Answer, request_id: str, find: Callable[[str], str | None]
) -> Iterator[Trace]:
    trace = tracer.request(entrance, request_id, find, _arrived.get())
    token = _current.set(trace)
    try:
        yield trace
    finally:
        _current.reset(token)
        trace.answered(answer)


@contextmanager
def _span(trace: Trace, name: str, attributes: dict[str, Value]) -> Iterator[Trace | None]:
    child = trace.child(name, attributes)
    if child is None:
        yield None
        return
    token = _current.set(child)
    try:
        yield child
    except BaseException as error:
        # Its kind alone: messages quote what clients sent.
        child.fail(type(error).__name__)
        raise
    finally:
        _current.reset(token)
        child.end()
