"""One session of a unit: a TCP connection to the unit manager, a work id, one request in flight.

The unit manager cannot cancel a request, so an abandoned request still has to end (`Session.settle`).
Otherwise the unit would take its unfinished frames for the beginning of the next request, and the service
would take its late answer for the answer to the next one.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Final, Self

from inference_service.errors import Busy, NotReady, RuntimeFailed, RuntimeTimeout
from inference_service.runtimes.edge_llm.connection import (
    FORMAT_ERROR,
    LOST_FRAMES_ADVICE,
    Connection,
    SessionLost,
    UnitFailed,
    new_request_id,
)
from inference_service.runtimes.edge_llm.frames import (
    MAX_ANSWER,
    Delta,
    ProtocolError,
    delta_of,
    exit_frame,
    inference_frame,
    inference_frames,
    join,
    setup_frame,
)

#: Seconds between a setup's answer and the session's first frame. The unit subscribes to the session's
#: channel while it answers, and the bus drops what is published before the subscription has arrived.
SUBSCRIPTION_TIME: Final = 0.05

#: Without a delay between frames: the number of frames sent at once, and the seconds of the pause after them.
#: The bus behind the unit manager drops messages over a thousand in its queue.
BURST_FRAMES: Final = 250
BURST_PAUSE: Final = 0.01

#: Seconds for which a connection stays open for the answer to an exit. Closing it under a unit that answers
#: leaves the unit hanging in its send.
EXIT_LINGER: Final = 10.0

#: Seconds within which a second unit's answer to a request follows the first unit's.
STRAY_TIME: Final = 0.05

_WRITE_SIZE: Final = 64 * 1024


class Session:
    """A unit's session with one model. Serves one request at a time; the pool ensures that."""

    def __init__(self, connection: Connection, work_id: str, model: str, answer_timeout: float) -> None:
        self._connection = connection
        self._answer_timeout = answer_timeout
        #: An abandoned request's last frame (empty if it was sent), and the delay before it; `_reading` gets
        #: its answer.
        self._abandoned: tuple[bytes, float] | None = None
        self._reading: asyncio.Task[str] | None = None
        self._usable = True
        self._listened = False
        self._known = True  # to the unit, as far as this side knows
        self._subscribed_at = asyncio.get_running_loop().time() + SUBSCRIPTION_TIME
        self.work_id = work_id
        self.model = model

    @classmethod
    async def open(cls, address: str, model: str, *, connect_timeout: float, answer_timeout: float) -> Self:
        """Connect and set `model` up, within `connect_timeout` and `answer_timeout` seconds.

        Raises NotReady, RuntimeFailed, RuntimeTimeout, Busy, and SessionLost if the connection breaks.
        """
        connection = await Connection.open(address, connect_timeout)
        try:
            async with asyncio.timeout(answer_timeout):
                request_id = new_request_id()
                await connection.send(setup_frame(request_id, model))
                reply = await connection.reply_to(request_id)
            if not reply.work_id:
                raise RuntimeFailed(f"the answer to the setup of {model} has no `work_id`")
        except BaseException as error:
            connection.close()
            if isinstance(error, TimeoutError):
                reason = f"the setup of {model} was not answered within {answer_timeout:g} s"
                raise RuntimeTimeout(reason) from None
            raise
        return cls(connection, reply.work_id, model, answer_timeout)

    @property
    def number(self) -> int:
        """The number in the work id. The unit manager counts them up, and starts again after a restart."""
        digits = self.work_id.rpartition(".")[2]
        return int(digits) if digits.isdecimal() else -1

    @property
    def pending(self) -> bool:
        """Whether an abandoned request has to be settled before the next one."""
        return self._abandoned is not None and self._usable

    @property
    def lost(self) -> bool:
        """Whether the connection broke, so that the unit got no exit message."""
        return self._connection.broken

    @property
    def usable(self) -> bool:
        """Whether this session can take another request, after nothing is pending."""
        return self._usable and not self._connection.broken

    async def infer(self, pieces: list[str], delay: float) -> str:
        """Send a payload cut by `Framing.cut`, `delay` seconds between frames, and return the whole answer.

        Raises SessionLost, RuntimeFailed, and RuntimeTimeout (no answer within the session's time after the
        last frame). After a cancellation the session is `pending`.
        """
        loop = asyncio.get_running_loop()
        request_id = new_request_id()
        await asyncio.sleep(max(0.0, self._subscribed_at - loop.time()))
        # The answer is read while frames are written: an error may come before the last frame is sent.
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
        except (asyncio.CancelledError, RuntimeTimeout) as reason:
            last_frame = inference_frame(request_id, self.work_id, "", sent, finish=True)
            self._abandoned = (b"" if sent == len(pieces) else last_frame, delay)
            self._usable = not isinstance(reason, RuntimeTimeout)
            raise
        except UnitFailed as error:
            self._usable = sent == len(pieces) and error.code != FORMAT_ERROR
            raise
        except BaseException:
            self._usable = False
            answer.cancel()
            raise

    async def _answer(self, answer: asyncio.Task[str], frames: int, *, complete: bool) -> str:
        # `wait` does not cancel the answer when the caller leaves: `settle` still has to read it.
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
        """Whether a second unit answers this session's requests. The first call waits for its answer.

        A restarted unit manager assigns the channels of its earlier life again, and the units of that life
        still listen on them.
        """
        if not self._listened and not self._connection.strays:
            self._listened = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STRAY_TIME):
                    await self._connection.reply_to("")
        return self._connection.strays

    async def dismiss(self, work_ids: Iterable[str]) -> None:
        """Make the units of other sessions exit, and give them time for that."""
        for work_id in work_ids:
            await self._connection.send(exit_frame(new_request_id(), work_id))
            await asyncio.sleep(STRAY_TIME)
        self._connection.strays = False
        self._listened = False

    async def settle(self) -> None:
        """Bring an abandoned request to its end. If it does not end, the session is not usable any more."""
        if self._abandoned is None or self._reading is None:
            return
        (last_frame, delay), self._abandoned = self._abandoned, None
        try:
            async with asyncio.timeout(self._answer_timeout):
                if last_frame:
                    await asyncio.sleep(delay)
                    await self._connection.send(last_frame)
                await self._reading
        except (TimeoutError, SessionLost):
            self._usable = self._known = False
        except (RuntimeFailed, NotReady, Busy):
            self._usable = False

    def disown(self) -> None:
        """Drop this session without an exit message: the unit may have been restarted, and some units do not
        survive the exit of a session that they do not know."""
        self._usable = self._known = False

    async def leave(self, linger: float = EXIT_LINGER) -> None:
        """Send the unit an exit message, and close after its answer or `linger` seconds, because units need
        not answer.

        Nobody has to wait for this. A silent unit gets the exit message only after it has answered.
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
            pass  # the unit is gone, or it does not answer an exit, which is allowed
        finally:
            self._connection.close()
