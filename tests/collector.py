"""A real receiver of traces on loopback: OTLP over HTTP, decoded with OpenTelemetry's own messages.

As collectors do, it takes protobuf and JSON: the service sends the one, Triton the other.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue


@dataclass(frozen=True)
class Span:
    """A span as it arrived; ids in hexadecimal, times in nanoseconds."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    begin: int
    end: int
    kind: int
    failed: bool
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any] = field(repr=False)


class Collector:
    """What arrived, in the order of arrival."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._spans: list[Span] = []

    @property
    def spans(self) -> list[Span]:
        return list(self._spans)

    def of(self, trace_id: str) -> dict[str, list[Span]]:
        """A trace's spans by name."""
        named: dict[str, list[Span]] = {}
        for span in self.spans:
            if span.trace_id == trace_id:
                named.setdefault(span.name, []).append(span)
        return named

    def wait(self, done: Callable[[], Any], seconds: float = 20.0) -> None:
        """Waits until `done`, and fails the test if it is not in time."""
        deadline = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < deadline, f"not within {seconds} s; arrived: {self.spans}"
            time.sleep(0.05)

    def take(self, body: bytes, content_type: str) -> None:
        message = _of_json(body) if "json" in content_type else ExportTraceServiceRequest.FromString(body)
        for each in message.resource_spans:
            resource = _mapping(each.resource.attributes)
            for scope in each.scope_spans:
                self._spans += [_span(span, resource) for span in scope.spans]


@contextmanager
def collector() -> Iterator[Collector]:
    """Runs a receiver."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.take(body, self.headers["Content-Type"])
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()


def _of_json(body: bytes) -> ExportTraceServiceRequest:
    """OTLP's JSON is protobuf's, but its ids are hexadecimal and not base64."""

    def rewritten(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        ids = ("traceId", "spanId", "parentSpanId")
        return {
            key: base64.b64encode(bytes.fromhex(value)).decode() if key in ids else value
            for key, value in pairs
        }

    read = json.loads(body, object_pairs_hook=rewritten)
    return ParseDict(read, ExportTraceServiceRequest(), ignore_unknown_fields=True)


def _span(span: Any, resource: dict[str, Any]) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        kind=span.kind,
        failed=span.status.code == 2,
        attributes=_mapping(span.attributes),
        events=[(event.name, _mapping(event.attributes)) for event in span.events],
        resource=resource,
    )


def _mapping(attributes: Any) -> dict[str, Any]:
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    return getattr(value, str(value.WhichOneof("value")))
