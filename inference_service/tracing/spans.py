"""What a tracer and its spans are, whatever makes them."""

from collections.abc import Callable
from typing import Protocol

#: What the spans' attributes hold.
Value = str | bool | int | float


class Answer(Protocol):
    """The outcome of a request: its route, and its HTTP status or gRPC code. Read when the request ends."""

    route: str
    status: str


class Trace(Protocol):
    """Where the running code is in a traced request."""

    trace_id: str

    def child(self, name: str, attributes: dict[str, Value]) -> "Trace | None":
        """Begin a child span; None where the request has too many."""

    def set(self, name: str, value: Value) -> None:
        """Set an attribute of this span."""

    def fail(self, kind: str) -> None:
        """Mark this span as failed, by the name of the error's kind."""

    def end(self) -> None:
        """End this span, now."""

    def note(self, name: str, value: Value) -> None:
        """Set an attribute of the request's span."""

    def event(self, name: str, attributes: dict[str, Value]) -> None:
        """Add an event to the request's span."""

    def answered(self, answer: Answer) -> None:
        """Give the request's span its name and status."""

    def headers(self, *, sampled_only: bool) -> dict[str, str]:
        """W3C `traceparent` and `tracestate` for a call from this span."""


class Tracer(Protocol):
    """Begins the traces of a process and sends them."""

    def request(
        self, entrance: str, request_id: str, find: Callable[[str], str | None], begun: int | None
    ) -> Trace:
        """Begin a request's span, as a child of the client's. `begun`: nanoseconds since 1970."""

    def stop(self, seconds: float) -> None:
        """Send what is left, for at most so many seconds."""
