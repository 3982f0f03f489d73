"""Traces through OpenTelemetry's SDK, sent by OTLP over HTTP from a thread of their own.

The SDK is used directly. The instrumentations of ASGI and gRPC make a span of every message of a stream, and
record queries and exceptions, in which clients' words are.
"""

import logging
from collections.abc import Callable
from threading import Thread
from typing import Any

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_service import __version__
from inference_service.settings import TRACES_PATH, TracesSettings
from inference_service.tracing.spans import Answer, Value

SERVICE_NAME = "ai-inference-service"

#: Child spans of one request. A stream of hours has thousands of results.
MOST_CHILDREN = 256

#: Spans that wait to be sent; later ones are dropped. A span takes about 2 kB.
_QUEUE, _BATCH = 4096, 512
#: Seconds for one delivery with its retries.
_DELIVERY = 2.0

#: gRPC codes that are failures of the server (OpenTelemetry's semantic conventions).
_SERVER_ERRORS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)

#: Loggers of what goes wrong with deliveries: they would log it every few seconds.
_NOISY = (trace_exporter.__name__, "opentelemetry.sdk._shared_internal")

_w3c = TraceContextTextMapPropagator()


class OtlpTracer:
    """The traces of one process. A collector that is away costs spans, never a request."""

    def __init__(self, settings: TracesSettings) -> None:
        for name in _NOISY:
            logging.getLogger(name).addFilter(_Once())
        self._exporter = trace_exporter.OTLPSpanExporter(
            f"{settings.endpoint}{TRACES_PATH}", timeout=_DELIVERY
        )
        resource = {"service.name": SERVICE_NAME, "service.version": __version__, **settings.resource}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(settings.share)),
            resource=Resource.create(resource),
            shutdown_on_exit=False,
        )
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=_QUEUE,
            max_export_batch_size=_BATCH,
        )
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("inference_service", __version__)

    def request(
        self, entrance: str, request_id: str, find: Callable[[str], str | None], begun: int | None
    ) -> "OtlpTrace":
        """Begin a request's span."""
        sent = {name: value for name in ("traceparent", "tracestate") if (value := find(name)) is not None}
        given = _w3c.extract(sent, Context()) if sent else Context()
        span = self._tracer.start_span(
            entrance,
            given,
            api.SpanKind.SERVER,
            {"ai.entrance": entrance, "ai.request_id": request_id},
            start_time=begun,
        )
        return OtlpTrace(span, _Request(self._tracer, span, entrance))

    def stop(self, seconds: float) -> None:
        """Send what is left. A delivery that hangs is left behind: its thread does not hold the process."""
        ending = Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(seconds)


class _Request:
    """What the spans of one request share."""

    __slots__ = ("children", "entrance", "span", "tracer")

    def __init__(self, tracer: api.Tracer, span: api.Span, entrance: str) -> None:
        self.tracer = tracer
        self.span = span
        self.entrance = entrance
        self.children = 0


class OtlpTrace:
    """One span of a request."""

    __slots__ = ("_request", "_span", "trace_id")

    def __init__(self, span: api.Span, request: _Request) -> None:
        self._span = span
        self._request = request
        self.trace_id = api.format_trace_id(span.get_span_context().trace_id)

    def child(self, name: str, attributes: dict[str, Value]) -> "OtlpTrace | None":
        """Begin a child span; None where the request has `MOST_CHILDREN`, or where nobody keeps them."""
        if not self._span.is_recording():
            return None
        self._request.children += 1
        if self._request.children > MOST_CHILDREN:
            return None
        within = api.set_span_in_context(self._span, Context())
        span = self._request.tracer.start_span(name, within, attributes=attributes)
        return OtlpTrace(span, self._request)

    def set(self, name: str, value: Value) -> None:
        """Set an attribute of this span."""
        self._span.set_attribute(name, value)

    def fail(self, kind: str) -> None:
        """Mark this span as failed."""
        _fail(self._span, kind)

    def end(self) -> None:
        """End this span."""
        self._span.end()

    def note(self, name: str, value: Value) -> None:
        """Set an attribute of the request's span."""
        self._request.span.set_attribute(name, value)

    def event(self, name: str, attributes: dict[str, Value]) -> None:
        """Add an event to the request's span. The SDK keeps the last 128."""
        self._request.span.add_event(name, attributes)

    def answered(self, answer: Answer) -> None:
        """End the request's span with its name and status."""
        span, request = self._request.span, self._request
        if span.is_recording():
            span.update_name(f"{request.entrance} {answer.route}")
            failed = answer.status in _SERVER_ERRORS
            if request.entrance == "grpc":
                span.set_attributes(
                    {"rpc.system": "grpc", "rpc.method": answer.route, "ai.status": answer.status}
                )
            else:
                code = int(answer.status) if answer.status.isdigit() else 0
                span.set_attributes({"http.route": answer.route, "http.response.status_code": code})
                failed = code >= 500
            if failed:
                _fail(span, answer.status)
            if (dropped := request.children - MOST_CHILDREN) > 0:
                span.set_attribute("ai.spans_left_out", dropped)
        span.end()

    def headers(self, *, sampled_only: bool) -> dict[str, str]:
        """The W3C headers for a call from this span."""
        if sampled_only and not self._span.get_span_context().trace_flags.sampled:
            return {}
        carrier: dict[str, str] = {}
        _w3c.inject(carrier, api.set_span_in_context(self._span, Context()))
        return carrier


def _fail(span: api.Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(api.StatusCode.ERROR)


class _Once(logging.Filter):
    """One line a minute of each kind: a collector that is away must not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[Any, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        kind = (record.name, record.msg)
        if record.created - self._last.get(kind, 0.0) < 60.0:
            return False
        self._last[kind] = record.created
        return True
