"""Uvicorn's HTTP, with the answers that it lacks for clients that do not speak HTTP, or not to their end."""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from inference_service.http.envelope import enveloped

#: Seconds within which a request's head must be there, from the connection or from its own first byte; what
#: comes after it has its limits in `body`.
HEAD_SECONDS = 30.0
#: Bytes that a head may have, twice as many as nginx lets through.
HEAD_BYTES = 64 * 1024


class _Batched:
    """A connection's transport whose writes within one turn of the event loop go out as one: an answer's head
    and body are one system call here and one segment for the client, not two of each."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self.transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this turn."""
        if self._held:
            self._held += data
        elif data:
            self._held = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Close the connection when everything is sent."""
        self._flush()
        self.transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed or about to be."""
        return self.transport.is_closing()

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            self.transport.write(held)


class HttpProtocol(HttpToolsProtocol):
    """One connection. What is refused here never becomes a request, so `front` does not see it."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        self.transport = _Batched(transport, self.loop)  # type: ignore[assignment]
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Act on what came."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
            if self._in_head():
                self._expect_rest_of_head(len(data))
        except httptools.HttpParserUpgrade as offer:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            else:
                self._decline(data[offer.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "not a valid HTTP request")

    def on_headers_complete(self) -> None:
        """Begin the request, unless it must be read again (see `_decline`)."""
        self._forget_head()
        if not self._declines():
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request's end."""
        if not self._declines():
            super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the WebSocket's protocol."""
        assert isinstance(self.transport, _Batched)
        self.transport = self.transport.transport
        super().handle_websocket_upgrade()

    def _should_upgrade(self) -> bool:
        # A WebSocket begins with a GET; the library behind it would answer nothing at all to others.
        return self.parser.get_method() == b"GET" and super()._should_upgrade()

    def _declines(self) -> bool:
        return self.parser.should_upgrade() and not self._should_upgrade()

    def _decline(self, rest: bytes) -> None:
        """Read a request again without its offer of another protocol, for which the parser has left the body,
        beginning with `rest`, alone. Java's client offers HTTP/2 with every request."""
        if self.parser.get_method() == b"CONNECT":
            self._refuse(400, "this is not a proxy")
            return
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(b"\r\n".join([*lines, b"", rest]))

    def _in_head(self) -> bool:
        return self.scope is not None and "method" not in self.scope

    def _expect_rest_of_head(self, received: int) -> None:
        self._head_bytes += received
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431, f"the request's head is larger than {HEAD_BYTES} bytes")
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _forget_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_bytes:
            self._refuse(408, f"the request's head did not arrive within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer in the envelope, and close the connection: where a next request would begin is unknown."""
        request_id = uuid.uuid4().hex
        body = enveloped(status, reason, None, request_id)
        head = (
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"x-request-id: {request_id}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
