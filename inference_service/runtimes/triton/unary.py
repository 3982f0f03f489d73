"""Unary gRPC calls with small messages over one HTTP/2 connection, right in the event loop.

With the tensor in shared memory, a request to Triton is a few hundred bytes, and `grpc.aio`, which answers
through a thread of its own and a pipe into the event loop, was a third of what a short request cost the
service. This client does only what such calls need, and says (`UnaryConnection.takes`, `NotSent`) when one
belongs on the `grpc.aio` channel: a larger message, a connection that is not there yet or is going away, too
many calls at once.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

import grpc
import hpack

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types and flags (RFC 9113, section 6), settings and error codes.
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0,
    1,
    3,
    4,
    6,
    7,
    8,
    9,
)
_ACK = _END_STREAM = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE = 1, 2, 3, 4
_REFUSED_STREAM, _CANCEL = 7, 8

_MAX_FRAME = 16384  # neither side announces more
_LARGEST_WINDOW = 2**31 - 1
#: Received bytes after which the connection's window is filled again.
_REFILL = 2**24
_LAST_STREAM_ID = 2**31 - 1
#: Milliseconds after which a peer that confirms nothing of what was sent is gone (TCP_USER_TIMEOUT).
_UNCONFIRMED_MS = 10_000

#: Seconds between two looks at whether a server with calls under way still says anything.
_TICK = 1.0
#: Ticks of silence after which it is asked with a ping, four times as many after each that it answers, and
#: how many pings it gets for one silence: gRPC's servers end the connection at the fourth.
_PING_AFTER, _MOST_PINGS = 2, 3
#: Ticks without an answer to a ping after which it is taken to hang.
_PATIENCE = 5
#: Seconds for the server's greeting, its settings.
_GREETING = 5.0

_frame_head = struct.Struct(">IBI").pack  # (length << 8 | type), flags, stream


class NotSent(Exception):
    """The server did not look at the call, which may be made again elsewhere."""


class CallFailed(Exception):
    """A call ended with another status than OK; `code` and `details` are as in gRPC."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class _ProtocolError(Exception):
    """The peer broke the rules of HTTP/2; the connection ends."""


_CODES = {str(code.value[0]): code for code in grpc.StatusCode}


class _Stream:
    __slots__ = ("answer", "body", "headers")

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self.answer = answer
        self.body = bytearray()
        self.headers: dict[str, str] = {}  # header fields, then trailers


class UnaryConnection(asyncio.Protocol):
    """One connection to a gRPC server; `open` makes it. It ends by itself, and is not opened again.

    A server that hangs, its connection alive in the kernel all the same, is found by a ping while calls wait.
    """

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, _Stream] = {}
        self._next_id = 1
        self._closing = False
        self._settled = False  # the server's settings are known
        self._greeted: asyncio.Future[None] = self._loop.create_future()
        #: Whether it ended because the server did not answer a ping.
        self.unresponsive = False
        self._tick: asyncio.TimerHandle | None = None
        self._silence = 0  # ticks since anything was received
        self._pings = 0  # since the last answer to a call
        self._pinged = False  # and the answer to that is not there yet
        self._unread = b""
        self._block = bytearray()  # a header block whose end has not come yet …
        self._block_of = 0  # … its stream …
        self._block_ends = False  # … and whether that ends with it
        self._unfilled = 0
        self._most_streams = _LARGEST_WINDOW
        self._stream_window = self._window = 65535

    @classmethod
    async def open(cls, address: str) -> UnaryConnection:
        """Connect to `address` (host:port) and wait for the server's settings. Raises OSError."""
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_GREETING):
            _, connection = await loop.create_connection(lambda: cls(address), host.strip("[]"), int(port))
            try:
                await connection._greeted
            except BaseException:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Close the connection; calls still running fail with UNAVAILABLE."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()

    @property
    def closed(self) -> bool:
        """Whether no further call will be taken."""
        return self._closing

    def takes(self, size: int) -> bool:
        """Whether a call with a message of `size` bytes can be made now."""
        size += 5
        return (
            self._settled
            and not self._closing
            and size <= _MAX_FRAME
            and size <= self._window
            and size <= self._stream_window
            and len(self._streams) < self._most_streams
        )

    async def call(self, path: str, message: bytes, time_limit: float) -> bytes:
        """Call the method at `path`; returns the answer's message. Only when `takes` it.

        Raises CallFailed (DEADLINE_EXCEEDED after `time_limit` seconds, UNAVAILABLE when the connection is
        lost), NotSent. Cancelling cancels the call in the server.
        """
        assert self._transport is not None
        stream_id, self._next_id = self._next_id, self._next_id + 2
        if self._next_id > _LAST_STREAM_ID:
            self._closing = True
        stream = self._streams[stream_id] = _Stream(self._loop.create_future())
        block = _request_headers(self._authority, path, max(1, round(1000 * time_limit)))
        size = len(message) + 5
        self._window -= size
        self._transport.write(
            b"".join(
                (
                    _frame_head(len(block) << 8 | _HEADERS, _END_HEADERS, stream_id),
                    block,
                    _frame_head(size << 8 | _DATA, _END_STREAM, stream_id),
                    b"\0",
                    (size - 5).to_bytes(4, "big"),
                    message,
                )
            )
        )
        timer = self._loop.call_later(time_limit, self._expire, stream_id)
        if self._tick is None:
            self._silence = self._pings = 0
            self._tick = self._loop.call_later(_TICK, self._on_tick)
        try:
            return await stream.answer
        except asyncio.CancelledError:
            self._reset(stream_id)
            raise
        finally:
            timer.cancel()
            self._forget(stream_id)

    # From the transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface, our settings, and as large a window as there is."""
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNCONFIRMED_MS)
        # Without a table of header fields a block means the same whenever it comes, so it is decoded once.
        settings = {_HEADER_TABLE_SIZE: 0, _ENABLE_PUSH: 0, _INITIAL_WINDOW_SIZE: _LARGEST_WINDOW}
        payload = b"".join(struct.pack(">HI", key, value) for key, value in settings.items())
        transport.write(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, payload)
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - 65535))
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the calls that still run."""
        self._closing = True
        for stream in self._streams.values():
            _fail(stream, CallFailed(grpc.StatusCode.UNAVAILABLE, f"connection lost: {exc or 'closed'}"))
        self._streams.clear()
        if not self._greeted.done():
            self._greeted.set_exception(ConnectionError(f"connection lost: {exc or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        """Act on every whole frame."""
        self._silence = 0
        if self._unread:
            data = self._unread + data
        at, end = 0, len(data)
        try:
            while end - at >= 9:
                length = int.from_bytes(data[at : at + 3], "big")
                if length > _MAX_FRAME:
                    raise _ProtocolError(f"a frame of {length} bytes")
                if end - at < 9 + length:
                    break
                stream_id = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
                self._on_frame(data[at + 3], data[at + 4], stream_id, data[at + 9 : at + 9 + length])
                at += 9 + length
            self._unread = data[at:]
        except (_ProtocolError, hpack.HPACKError, struct.error) as error:
            self._give_up(f"not understood: {type(error).__name__}: {error}")

    # Frames -----------------------------------------------------------------------------------------------

    def _on_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block_of and (kind != _CONTINUATION or stream_id != self._block_of):
            raise _ProtocolError("a header block was interrupted")
        match kind:
            case 0:  # DATA
                self._on_data(flags, stream_id, payload)
            case 1:  # HEADERS
                fragment = _without_padding(flags, payload)
                self._block_of, self._block_ends = stream_id, bool(flags & _END_STREAM)
                self._block += fragment[5:] if flags & _PRIORITY else fragment
                self._on_block(flags)
            case 9:  # CONTINUATION
                if not self._block_of or len(self._block) > 65536:
                    raise _ProtocolError("a continuation without its beginning, or without end")
                self._block += payload
                self._on_block(flags)
            case 3:  # RST_STREAM
                self._on_reset(stream_id, *struct.unpack(">I", payload))
            case 4:  # SETTINGS
                self._on_settings(flags, payload)
            case 5:  # PUSH_PROMISE
                raise _ProtocolError("a push, which was switched off")
            case 6:  # PING
                if flags & _ACK:
                    self._pinged = False
                else:
                    self._write(_frame(_PING, _ACK, 0, payload))
            case 7:  # GOAWAY
                self._on_goaway(struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF)
            case 8:  # WINDOW_UPDATE; a call's own window is never used up
                if not stream_id:
                    self._window += struct.unpack(">I", payload)[0] & 0x7FFFFFFF
            case _:
                pass  # PRIORITY, and types that are not known, are to be ignored

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._unfilled += len(payload)
        if self._unfilled >= _REFILL:
            self._write(_frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unfilled)))
            self._unfilled = 0
        stream = self._streams.get(stream_id)
        if stream is not None:  # a cancelled call's answer may still be on its way
            stream.body += _without_padding(flags, payload)
            if flags & _END_STREAM:
                _finish(stream)

    def _on_block(self, flags: int) -> None:
        if not flags & _END_HEADERS:
            return
        block, stream_id = bytes(self._block), self._block_of
        self._block.clear()
        self._block_of = 0
        self._pings = 0
        fields = _decoded(block)
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.headers.update(fields)
            if self._block_ends:
                _finish(stream)

    def _on_reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if code == _REFUSED_STREAM:
            _fail(stream, NotSent())
        else:
            status = grpc.StatusCode.CANCELLED if code == _CANCEL else grpc.StatusCode.UNAVAILABLE
            _fail(stream, CallFailed(status, f"the server reset the call (HTTP/2 error {code})"))

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & _ACK:
            return
        for key, value in struct.iter_unpack(">HI", payload):
            if key == _MAX_CONCURRENT_STREAMS:
                self._most_streams = value
            elif key == _INITIAL_WINDOW_SIZE:
                self._stream_window = value
        self._settled = True
        if not self._greeted.done():
            self._greeted.set_result(None)
        self._write(_frame(_SETTINGS, _ACK, 0, b""))

    def _on_goaway(self, last_id: int) -> None:
        self._closing = True
        for stream_id, stream in self._streams.items():
            if stream_id > last_id:
                _fail(stream, NotSent())
        self._close_when_idle()

    # ------------------------------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        """While calls wait: ask a silent server whether it lives, and give one up that does not answer."""
        self._tick = None
        if not self._streams or self._closing:
            return
        self._silence += 1
        if self._pinged and self._silence >= _PATIENCE:
            self.unresponsive = True
            self._give_up("the server does not answer")
            return
        if not self._pinged and self._pings < _MOST_PINGS and self._silence >= _PING_AFTER * 4**self._pings:
            self._pinged = True
            self._pings += 1
            self._silence = 0
            self._write(_frame(_PING, 0, 0, bytes(8)))
        self._tick = self._loop.call_later(_TICK, self._on_tick)

    def _expire(self, stream_id: int) -> None:
        self._reset(stream_id)
        if stream := self._streams.get(stream_id):
            _fail(stream, CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def _reset(self, stream_id: int) -> None:
        if stream_id in self._streams:
            self._write(_frame(_RST_STREAM, 0, stream_id, struct.pack(">I", _CANCEL)))

    def _forget(self, stream_id: int) -> None:
        self._streams.pop(stream_id, None)
        if self._closing:
            self._close_when_idle()

    def _close_when_idle(self) -> None:
        if not self._streams and self._transport is not None:
            self._transport.close()

    def _give_up(self, reason: str) -> None:
        self._closing = True
        for stream in self._streams.values():
            _fail(stream, CallFailed(grpc.StatusCode.UNAVAILABLE, reason))
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return _frame_head(len(payload) << 8 | kind, flags, stream_id) + payload


def _without_padding(flags: int, payload: bytes) -> bytes:
    if not flags & _PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _ProtocolError("more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def _fail(stream: _Stream, error: Exception) -> None:
    if not stream.answer.done():
        stream.answer.set_exception(error)


def _finish(stream: _Stream) -> None:
    """The call's end has come: its message where the status is OK, else what went wrong."""
    if stream.answer.done():
        return
    status = stream.headers.get("grpc-status")
    if status is None:
        http_status = stream.headers.get(":status")
        _fail(stream, CallFailed(grpc.StatusCode.UNKNOWN, f"HTTP status {http_status}, no gRPC status"))
    elif status != "0":
        details = unquote(stream.headers.get("grpc-message", ""))
        _fail(stream, CallFailed(_CODES.get(status, grpc.StatusCode.UNKNOWN), details))
    elif (
        len(stream.body) < 5
        or stream.body[0]
        or int.from_bytes(stream.body[1:5], "big") != len(stream.body) - 5
    ):
        _fail(stream, CallFailed(grpc.StatusCode.INTERNAL, "the answer is not one uncompressed message"))
    else:
        stream.answer.set_result(bytes(memoryview(stream.body)[5:]))


@lru_cache(maxsize=256)
def _request_headers(authority: str, path: str, milliseconds: int) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0  # the same block means the same each time
    return bytes(
        encoder.encode(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", path),
                (":authority", authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("grpc-timeout", f"{min(milliseconds, 99_999_999)}m"),
            ]
        )
    )


@lru_cache(maxsize=256)
def _decoded(block: bytes) -> dict[str, str]:
    decoder = hpack.Decoder()
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    return {str(name): str(value) for name, value in decoder.decode(block)}
