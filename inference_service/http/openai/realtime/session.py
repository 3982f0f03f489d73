"""A real-time transcription session: the client's events in, the server's events out."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from inference_service.errors import Draining, ServiceError, StreamIdle
from inference_service.http.openai.errors import FieldRefused
from inference_service.http.openai.realtime.config import SessionConfig
from inference_service.http.openai.realtime.events import (
    ClientEvent,
    failure,
    new_id,
    read_audio,
    read_event,
    read_update,
)
from inference_service.http.openai.realtime.input_buffer import InputBuffer, draining
from inference_service.http.openai.realtime.updates import BetaUpdate
from inference_service.runtimes.base import Call
from inference_service.streaming import Connection, Streaming

#: Characters of a message above which another thread reads it: less than a millisecond's worth.
_LONG_MESSAGE = 1 << 18

_Read = TypeVar("_Read")

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes | str]]


class RealtimeSession:
    """One session. `Streaming` calls `end` and `abort` when the node drains."""

    def __init__(
        self,
        streaming: Streaming,
        call: Call,
        own_model: str,
        config: SessionConfig,
        send: Send,
        *,
        beta: bool,
    ) -> None:
        """`own_model`: the node's. `send` takes an event and may raise ClientGone. `beta`: the client expects
        the events of OpenAI's beta."""
        self._streaming = streaming
        self._call = call
        self._own_model = own_model
        self._send = send
        self._id = new_id("sess")
        self._buffer = InputBuffer(config, self._open, self._tell, beta=beta)
        self._waiting: asyncio.Timeout | None = None
        self._aborted = False

    def end(self) -> None:
        """Read no more events, answer the audio that came, and end with Draining."""
        self._buffer.is_ending = True
        if self._waiting is not None:
            self._waiting.reschedule(0)

    def abort(self) -> None:
        """End with Draining now, without further answers."""
        self._aborted = True
        self.end()

    async def serve(self, receive: Receive, idle_timeout: float) -> None:
        """Answer events until `receive` or `send` raises ClientGone.

        Raises Draining, and StreamIdle if no event came for `idle_timeout` seconds.
        """
        try:
            created = "transcription_session.created" if self._buffer.beta else "session.created"
            await self._tell(created, self._shown(in_beta=self._buffer.beta))
            while True:
                await self._answer(await self._next(receive, idle_timeout))
        except (Draining, StreamIdle):
            await self._answer_the_rest()
            raise
        finally:
            await self._buffer.close()

    async def _next(self, receive: Receive, idle_timeout: float) -> bytes | str:
        if self._buffer.is_ending:
            raise draining()
        try:
            async with asyncio.timeout(idle_timeout) as self._waiting:
                return await receive()
        except TimeoutError:
            if self._buffer.is_ending:
                raise draining() from None
            raise StreamIdle(f"no event came for {idle_timeout:g} s") from None
        finally:
            self._waiting = None

    async def _answer_the_rest(self) -> None:
        if self._aborted:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(None) as self._waiting:
                await self._buffer.finish()

    async def _answer(self, message: bytes | str) -> None:
        event: ClientEvent | None = None
        try:
            event = await _read(read_event, message)
            assert isinstance(message, str)
            await self._handle(event.type, message)
        except Draining:
            raise
        except ServiceError as error:
            await self._tell("error", {"error": failure(error, event.event_id if event else None)})

    async def _handle(self, kind: str, message: str) -> None:
        match kind:
            case "input_audio_buffer.append":
                await self._buffer.append(await _read(read_audio, message))
            case "input_audio_buffer.commit":
                await self._buffer.commit()
            case "input_audio_buffer.clear":
                await self._buffer.clear()
            case "session.update":
                await self._update(message, "session.updated", in_beta=False)
            case "transcription_session.update":
                await self._update(message, "transcription_session.updated", in_beta=True)
            case _:
                raise FieldRefused(
                    "type",
                    f"{kind[:60]!r} is not an event of a transcription session; these are session.update, "
                    "input_audio_buffer.append, input_audio_buffer.commit and input_audio_buffer.clear",
                )

    async def _update(self, message: str, answer: str, *, in_beta: bool) -> None:
        update = read_update(message)
        config = self._buffer.config
        if isinstance(update, BetaUpdate):
            config = config.updated_by_beta(update, self._own_model)
        else:
            config = config.updated(update, self._own_model)
        self._buffer.configure(config)
        self._buffer.beta = self._buffer.beta or in_beta
        await self._tell(answer, self._shown(in_beta=in_beta))

    def _open(self, config: SessionConfig) -> Connection:
        interval = config.flush_interval_ms(self._streaming.flush_interval_ms)
        return self._streaming.connection(self._call, config.speech, flush_interval_ms=interval)

    def _shown(self, *, in_beta: bool) -> dict[str, Any]:
        config = self._buffer.config
        return {"session": config.shown_in_beta(self._id) if in_beta else config.shown(self._id)}

    async def _tell(self, kind: str, content: dict[str, Any]) -> None:
        await self._send({"type": kind, "event_id": new_id("event"), **content})


async def _read(read: Callable[[Any], _Read], message: bytes | str) -> _Read:
    """What `read` makes of a message, without holding the event loop."""
    if len(message) > _LONG_MESSAGE:
        return await asyncio.to_thread(read, message)
    return read(message)
