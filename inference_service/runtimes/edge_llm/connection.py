"""A TCP connection to the unit manager: sends frames, receives replies, and raises the errors in replies."""

import asyncio
import contextlib
import os
import secrets
import socket
from typing import Final, Self

from inference_service.errors import Busy, NotReady, RuntimeFailed
from inference_service.runtimes.edge_llm.frames import (
    MAX_LINE,
    ProtocolError,
    Reply,
    UnitError,
    parse_reply,
)

#: Error codes of the unit manager and of the units.
FORMAT_ERROR, PUSH_FAILED, NO_SUCH_UNIT, UNIT_CALL_FAILED, TASK_FULL = -2, -4, -6, -9, -21

#: An unfixed unit manager reports half a frame, but silently loses a frame that follows another at once.
LOST_FRAMES_ADVICE: Final = (
    "update the unit manager to one that splits its input by line, or send less at once: "
    "ai.request.max_single_delta_len 2048, ai.request.audio_stream_chunk_size 512, "
    "ai.request.audio_stream_chunk_delay_ms 10 or more"
)
FRAMING_ADVICE: Final = f"the unit manager read half a frame or several at once; {LOST_FRAMES_ADVICE}"


class SessionLost(Exception):
    """The connection broke, or the unit manager does not know the session any more. A new session may
    work."""


def new_request_id() -> str:
    """An id that is unique over all connections and restarts."""
    return secrets.token_hex(8)


class Connection:
    """Frames over one TCP connection. Raises SessionLost once it is broken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answered = ""
        #: Whether a reply came after the request's answer was complete: another unit answers too.
        self.strays = False
        self._socket: socket.socket = writer.get_extra_info("socket")

    @classmethod
    async def open(cls, address: str, time_limit: float) -> Self:
        """Connect to `address` (host:port) within `time_limit` seconds. Raises NotReady if that fails."""
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(time_limit):
                return cls(*await asyncio.open_connection(host.strip("[]"), port, limit=MAX_LINE))
        except TimeoutError:
            reason = f"no connection within {time_limit:g} s"
        except OSError as error:
            # asyncio's own text names the address, which must not reach clients.
            number = error.errno or 0  # below 0: of the resolver, whose text names no address
            reason = os.strerror(number) if number > 0 else error.strerror or type(error).__name__
        raise NotReady(f"the unit manager cannot be reached: {reason}")

    @property
    def broken(self) -> bool:
        """Whether the peer has closed the connection, as far as this side knows."""
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def send(self, data: bytes) -> None:
        """Write frames. Waits while the peer does not read."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise SessionLost(f"connection lost: {error.strerror or error}") from None

    async def receive(self) -> Reply:
        """The next reply. Raises ProtocolError for an invalid one."""
        line = b""
        while not line:
            self._acknowledge_quickly()
            try:
                read = await self._reader.readline()
            except ValueError:
                raise ProtocolError(f"the unit manager sent a line of more than {MAX_LINE} bytes") from None
            except OSError as error:
                raise SessionLost(f"connection lost: {error.strerror or error}") from None
            if not read.endswith(b"\n"):
                raise SessionLost("the unit manager closed the connection")
            line = read.strip()
        return parse_reply(line)

    async def reply_to(self, request_id: str) -> Reply:
        """The next reply to this request. Skips answers to earlier requests.

        An error that the unit manager cannot assign to a request (`request_id` "0", because it could not read
        the frame) belongs to the one request in flight. Raises the failure that the reply reports.
        """
        while True:
            reply = await self.receive()
            self.strays = self.strays or reply.request_id == self._answered
            if reply.request_id == request_id or (reply.request_id == "0" and reply.error):
                if reply.error:
                    raise failure(reply.error)
                return reply

    def complete(self, request_id: str) -> None:
        """No more replies are expected for this request."""
        self._answered = request_id

    def _acknowledge_quickly(self) -> None:
        # The unit manager sends an answer's frames one by one with Nagle's algorithm: each waits for the
        # acknowledgement of the previous one. Linux delays that by 40 ms unless TCP_QUICKACK is set before
        # each read.
        if hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def close(self) -> None:
        """Close at once, and drop unsent frames."""
        self._writer.transport.abort()


class UnitFailed(RuntimeFailed):
    """The unit manager or the unit reported an error; `code` is theirs."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason)
        self.code = code


def failure(error: UnitError) -> Exception:
    """The exception for an error in a reply."""
    reason = f"edge-llm error (code {error.code}): {error.message}"
    if error.code == FORMAT_ERROR:
        return UnitFailed(f"{reason} ({FRAMING_ADVICE})", error.code)
    if error.code in (PUSH_FAILED, NO_SUCH_UNIT):
        return SessionLost(reason)
    if error.code == UNIT_CALL_FAILED:
        return NotReady(f"{reason} (the llm node is not running)")
    if error.code == TASK_FULL:
        return Busy(
            f"{reason} (the llm node takes no more sessions; lower ai.runtime.edge_llm.max_sessions, or "
            "restart it if sessions were left behind)"
        )
    return UnitFailed(reason, error.code)
