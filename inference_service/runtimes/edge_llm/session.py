"""One session of a unit: a TCP connection to the unit manager, a work id, one request in flight.

The unit manager has no way to take a request back. So a request that is given up is still brought to its end
(`Session.settle`): its unfinished stream of frames would be taken for the beginning of the next one, and its
late answer for the next one's.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from inference_service.errors import Busy, NotReady, RuntimeFailed, RuntimeTimeout
from inference_service.runtimes.edge_llm.frames import (
    MAX_ANSWER,
    Delta,
    LineBuffer,
    ProtocolError,
    Reply,
    UnitError,
    delta_of,
    exit_frame,
    inference_frame,
    inference_frames,
    join,
    parse_reply,
    setup_frame,
)

#: Seconds between a setup's answer and the session's first frame. The unit subscribes to the session's
#: channel while it answers, and the bus drops what is published before the subscription has arrived.
SUBSCRIPTION_TIME: Final = 0.05

#: Without a delay between frames, so many go at once, then a pause of so many seconds: the bus behind the
#: unit manager drops what is over a thousand messages in its queue.
BURST_FRAMES: Final = 250
BURST_PAUSE: Final = 0.01

#: Seconds for which a connection stays open for the answer to an exit. Closing it under a unit that answers
#: leaves the unit hanging in its send.
EXIT_LINGER: Final = 10.0

#: Seconds in which a second unit's answer to a request comes after the first's.
STRAY_TIME: Final = 0.05

_WRITE_SIZE: Final = 64 * 1024
_READ_SIZE: Final = 64 * 1024

#: Error codes of the unit manager and of the units.
FORMAT_ERROR, PUSH_FAILED, NO_SUCH_UNIT, UNIT_CALL_FAILED, TASK_FULL = -2, -4, -6, -9, -21

#: An unfixed unit manager reports half a frame, but silently loses one that came right behind another.
LOST_FRAMES_ADVICE: Final = (
    "update the unit manager to one that splits its input by line, or send less at once: "
    "ai.request.max_single_delta_len 2048, ai.request.audio_stream_chunk_size 512, "
    "ai.request.audio_stream_chunk_delay_ms 10 or more"
)
FRAMING_ADVICE: Final = f"the unit manager read half a frame or several at once; {LOST_FRAMES_ADVICE}"


class SessionLost(Exception):
    """The connection broke, or the unit manager no longer knows the session: a new one may do."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the unit manager listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`host:port`, an IPv6 host in brackets."""
        host, _, port = text.rpartition(":")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def new_request_id() -> str:
    """An id that no other request has, on any connection and after any restart."""
    return secrets.token_hex(8)


class Connection:
    """Frames over one TCP connection. Raises SessionLost once it is broken."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._lines = LineBuffer()
        self._replies: deque[Reply] = deque()
        self._answered = ""
        #: Whether more came for a request after its answer was complete: another unit answers too.
        self.strays = False
        self._socket: socket.socket = writer.get_extra_info("socket")

    @classmethod
    async def open(cls, address: Address, time_limit: float) -> Connection:
        """Connect within `time_limit` seconds; NotReady with the reason where that fails."""
        try:
            async with asyncio.timeout(time_limit):
                return cls(*await asyncio.open_connection(address.host, address.port))
        except TimeoutError:
            reason = f"no connection within {time_limit:g} s"
        except OSError as error:
            reason = error.strerror or str(error)
        raise NotReady(f"the unit manager at {address} cannot be reached: {reason}")

    @property
    def broken(self) -> bool:
        """Whether the peer has closed the connection, as far as is known here."""
        return self._reader.at_eof() or self._writer.transport.is_closing()

    async def send(self, data: bytes) -> None:
        """Write frames; waits while the peer does not read."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as error:
            raise SessionLost(f"connection lost: {error.strerror or error}") from None

    async def receive(self) -> Reply:
        """The next reply; ProtocolError for what is not one."""
        while not self._replies:
            self._acknowledge_quickly()
            try:
                data = await self._reader.read(_READ_SIZE)
            except OSError as error:
                raise SessionLost(f"connection lost: {error.strerror or error}") from None
            if not data:
                raise SessionLost("the unit manager closed the connection")
            self._replies.extend(parse_reply(line) for line in self._lines.feed(data))
        return self._replies.popleft()

    async def reply_to(self, request_id: str) -> Reply:
        """The next reply to this request; answers to earlier ones are passed over.

        An error that the unit manager cannot ascribe (`request_id` "0", it could not read the frame) is about
        the one request in flight. Raises the failure that the reply reports.
        """
        while True:
            reply = await self.receive()
            self.strays = self.strays or reply.request_id == self._answered
            if reply.request_id == request_id or (reply.request_id == "0" and reply.error):
                if reply.error:
                    raise failure(reply.error)
                return reply

    def complete(self, request_id: str) -> None:
        """Nothing more is expected for this request."""
        self._answered = request_id

    def _acknowledge_quickly(self) -> None:
        # The unit manager writes an answer's frames one by one with Nagle's algorithm on: each waits for the
        # acknowledgement of the one before, which Linux delays by 40 ms unless asked, each time, not to.
        if hasattr(socket, "TCP_QUICKACK"):
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def close(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self._writer.transport.abort()


class UnitFailed(RuntimeFailed):
    """The unit manager or the unit reported an error; `code` is theirs."""

    def __init__(self, error: UnitError, advice: str = "") -> None:
        super().__init__(
            f"edge-llm error (code {error.code}): {error.message}" + (f" ({advice})" if advice else "")
        )
        self.code = error.code


def failure(error: UnitError) -> Exception:
    """The exception for an error that a reply carries."""
    match error.code:
        case code if code == FORMAT_ERROR:
            return UnitFailed(error, FRAMING_ADVICE)
        case code if code in (PUSH_FAILED, NO_SUCH_UNIT):
            return SessionLost(f"edge-llm error (code {error.code}): {error.message}")
        case code if code == UNIT_CALL_FAILED:
            return NotReady(
                f"edge-llm error (code {error.code}): {error.message} (the llm node is not running)"
            )
        case code if code == TASK_FULL:
            return Busy(
                f"edge-llm error (code {error.code}): {error.message} (the llm node takes no more sessions; "
                "lower ai.runtime.edge_llm.max_sessions, or restart it if sessions were left behind)"
            )
        case _:
            return UnitFailed(error)


@dataclass(frozen=True, slots=True)
class _Abandoned:
    """A request that nobody waits for any more, and how far it got."""

    request_id: str
    answer: asyncio.Task[str]
    frames_sent: int
    complete: bool
    delay: float


class Session:
    """A unit's session with one model. Not for two requests at once: the pool sees to that."""

    def __init__(self, connection: Connection, work_id: str, model: str, answer_timeout: float) -> None:
        self._connection = connection
        self._answer_timeout = answer_timeout
        self._abandoned: _Abandoned | None = None
        self._reading: asyncio.Task[str] | None = None
        self._usable = True
        self._listened = False
        self._known = True  # to the unit, as far as can be told here
        self._subscribed_at = asyncio.get_running_loop().time() + SUBSCRIPTION_TIME
        self.work_id = work_id
        self.model = model

    @classmethod
    async def open(
        cls, address: Address, model: str, *, connect_timeout: float, answer_timeout: float
    ) -> Session:
        """Connect and set `model` up, within `connect_timeout` and `answer_timeout` seconds.

        Raises NotReady, RuntimeFailed, RuntimeTimeout, Busy, and SessionLost when the connection breaks.
        """
        connection = await Connection.open(address, connect_timeout)
        try:
            async with asyncio.timeout(answer_timeout):
                request_id = new_request_id()
                await connection.send(setup_frame(request_id, model))
                reply = await connection.reply_to(request_id)
            if not reply.work_id:
                raise RuntimeFailed(f"the answer to the setup of {model} has no `work_id`")
        except TimeoutError:
            connection.close()
            raise RuntimeTimeout(
                f"the setup of {model} was not answered within {answer_timeout:g} s"
            ) from None
        except BaseException:
            connection.close()
            raise
        return cls(connection, reply.work_id, model, answer_timeout)

    @property
    def number(self) -> int:
        """The number in the work id: the unit manager counts them up, from the beginning when restarted."""
        digits = self.work_id.rpartition(".")[2]
        return int(digits) if digits.isdecimal() else -1

    @property
    def pending(self) -> bool:
        """Whether a given-up request has to be settled before the next."""
        return self._abandoned is not None and self._usable

    @property
    def lost(self) -> bool:
        """Whether the connection broke, so that the unit could not be told to exit."""
        return self._connection.broken

    @property
    def usable(self) -> bool:
        """Whether another request can go over this session, once nothing is pending."""
        return self._usable and not self._connection.broken

    async def infer(self, pieces: list[str], delay: float) -> str:
        """Send a payload cut by `Framing.cut`, `delay` seconds between frames, and return the whole answer.

        Raises SessionLost, RuntimeFailed, RuntimeTimeout (no answer within the session's time after the last
        frame). When cancelled, the session is `pending`.
        """
        loop = asyncio.get_running_loop()
        request_id = new_request_id()
        await asyncio.sleep(max(0.0, self._subscribed_at - loop.time()))
        # The answer is read while frames are still written: an error comes before the last of them.
        answer = self._reading = asyncio.create_task(self._collect(request_id))
        sent = 0
        try:
            frames = inference_frames(request_id, self.work_id, pieces)
            buffer = bytearray()
            for frame in frames:
                buffer += frame
                sent += 1
                last = sent == len(pieces)
                pause = 0.0 if last else delay if delay else BURST_PAUSE if sent % BURST_FRAMES == 0 else 0.0
                if last or pause or len(buffer) >= _WRITE_SIZE:
                    await self._connection.send(bytes(buffer))
                    buffer.clear()
                    await asyncio.wait({answer}, timeout=pause)
                if answer.done():
                    break
            return await self._answer(answer, sent, complete=sent == len(pieces))
        except (asyncio.CancelledError, RuntimeTimeout) as given_up:
            self._abandoned = _Abandoned(request_id, answer, sent, sent == len(pieces), delay)
            self._usable = not isinstance(given_up, RuntimeTimeout)
            raise
        except UnitFailed as error:
            self._usable = sent == len(pieces) and error.code != FORMAT_ERROR
            raise
        except BaseException:
            self._usable = False
            answer.cancel()
            raise

    async def _answer(self, answer: asyncio.Task[str], frames: int, *, complete: bool) -> str:
        # `wait` leaves the answer alone when the caller goes away: it is still to be read, by `settle`.
        done, _ = await asyncio.wait({answer}, timeout=self._answer_timeout)
        if not done:
            reason = f"{self.model} did not answer within {self._answer_timeout:g} s"
            if frames > 1:
                reason += f" after {frames} frames (if some of them were lost: {LOST_FRAMES_ADVICE})"
            raise RuntimeTimeout(reason)
        result = answer.result()
        if not complete:
            raise ProtocolError(f"{self.model} answered before the request was complete")
        return result

    async def _collect(self, request_id: str) -> str:
        deltas: list[Delta] = []
        length = 0
        while not (deltas and deltas[-1].finish):
            delta = delta_of(await self._connection.reply_to(request_id))
            if delta is None:
                continue
            deltas.append(delta)
            length += len(delta.text)
            if length > MAX_ANSWER:
                raise ProtocolError(f"{self.model} sent an answer of more than {MAX_ANSWER} characters")
        self._connection.complete(request_id)
        return join(deltas)

    async def is_shared(self) -> bool:
        """Whether a second unit answers this session's requests; the first time this waits for its answer.

        A unit manager that was restarted gives out the channels of its earlier life again, and the units of
        that life still listen on them.
        """
        if not self._listened and not self._connection.strays:
            self._listened = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STRAY_TIME):
                    await self._connection.reply_to("")
        return self._connection.strays

    async def dismiss(self, work_ids: Iterable[str]) -> None:
        """Make other sessions' units exit, and give them time for it."""
        for work_id in work_ids:
            await self._connection.send(exit_frame(new_request_id(), work_id))
            await asyncio.sleep(STRAY_TIME)
        self._connection.strays = False
        self._listened = False

    async def settle(self) -> None:
        """Bring a given-up request to its end. A session that does not come to it is not usable any more."""
        abandoned, self._abandoned = self._abandoned, None
        if abandoned is None:
            return
        try:
            async with asyncio.timeout(self._answer_timeout):
                if not abandoned.complete:
                    await asyncio.sleep(abandoned.delay)
                    await self._connection.send(
                        inference_frame(
                            abandoned.request_id, self.work_id, "", abandoned.frames_sent, finish=True
                        )
                    )
                await abandoned.answer
        except (TimeoutError, SessionLost):
            self._usable = self._known = False
        except (RuntimeFailed, NotReady, Busy):
            self._usable = False

    def disown(self) -> None:
        """Leave this session without an exit: the unit may have been restarted and not know it, and there are
        units that do not survive an exit from a session they do not know."""
        self._usable = self._known = False

    async def leave(self, linger: float = EXIT_LINGER) -> None:
        """Tell the unit to exit, and close after its answer or `linger` seconds: units need not answer.

        Nobody has to wait for this. A unit that was silent is told only once it has answered after all.
        """
        try:
            await self.settle()
            if self._reading is not None and not self._reading.done():
                self._reading.cancel()
                await asyncio.wait({self._reading})
            if self._known and not self._connection.broken:
                async with asyncio.timeout(linger):
                    request_id = new_request_id()
                    await self._connection.send(exit_frame(request_id, self.work_id))
                    await self._connection.reply_to(request_id)
        except (TimeoutError, SessionLost, RuntimeFailed, NotReady, Busy):
            pass  # the unit is gone, or silent, which is its right
        finally:
            self._connection.close()
