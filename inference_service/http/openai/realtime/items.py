"""One item of a real-time session: a turn of speech, recognised while it is spoken."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_service.errors import ServiceError
from inference_service.http.openai.answers import Language, Usage, languages
from inference_service.http.openai.realtime.deltas import Deltas
from inference_service.http.openai.realtime.events import failure
from inference_service.streaming import Chunk, ClientGone, Connection, StreamResult
from inference_service.tasks import Transcript

#: Chunks that wait to be read; the client waits when there are more.
_UNREAD = 8

_PREFIX = "conversation.item.input_audio_transcription"

Tell = Callable[[str, dict[str, Any]], Awaitable[None]]


class Item:
    """A stream of its own in the streaming session of the service."""

    def __init__(self, id: str, connection: Connection, rate: int, tell: Tell) -> None:
        """`rate`: Hz of its samples. Events go to `tell`, with their types."""
        self.id = id
        self.samples = 0
        self._connection = connection
        self._rate = rate
        self._tell = tell
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_UNREAD)
        self._deltas = Deltas()
        self._heard: list[Transcript] = []
        self._task = asyncio.create_task(self._run())

    @property
    def seconds(self) -> float:
        """The length of its audio so far."""
        return self.samples / self._rate

    @property
    def task(self) -> asyncio.Task[None]:
        """The recognition; it ends with the last event of the item."""
        return self._task

    async def append(self, samples: NDArray[np.int16]) -> None:
        """Add audio. Returns when there is room for more."""
        self.samples += len(samples)
        if len(samples):
            await self._put(samples.astype("<i2", copy=False).tobytes())

    async def finish(self) -> None:
        """There is no more audio: the transcript follows."""
        await self._put(None)

    async def drop(self) -> None:
        """Recognise no more, and tell nothing."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _put(self, chunk: bytes | None) -> None:
        """Wait for room, but not for a recognition that has failed."""
        if self._task.done():
            return
        if not self._chunks.full():
            self._chunks.put_nowait(chunk)
            return
        putting = asyncio.create_task(self._chunks.put(chunk))
        try:
            await asyncio.wait({putting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()

    async def _run(self) -> None:
        try:
            await self._connection.run(self._read(), self._take)
            await self._say(self._deltas.final(""))
            await self._tell(f"{_PREFIX}.completed", self._completed())
        except ServiceError as error:
            await self._tell(f"{_PREFIX}.failed", {**self._place, "error": failure(error)})
        except ClientGone:
            pass

    async def _read(self) -> AsyncIterator[Chunk]:
        sequence = 0
        while (data := await self._chunks.get()) is not None:
            sequence += 1
            yield Chunk(data, sequence, self.id, format="pcm", sample_rate=self._rate, channels=1)

    async def _take(self, result: StreamResult) -> None:
        if not isinstance(result.data, Transcript):
            return
        if result.is_final:
            self._heard.append(result.data)
            await self._say(self._deltas.final(result.data.text))
        else:
            await self._say(self._deltas.partial(result.data.text))

    async def _say(self, delta: str) -> None:
        if delta:
            await self._tell(f"{_PREFIX}.delta", {**self._place, "delta": delta})

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.id, "content_index": 0}

    def _completed(self) -> dict[str, Any]:
        spoken: list[Language] = languages(self._heard)
        usage = Usage(round(self.seconds, 3))
        return {**self._place, "transcript": self._deltas.text, "usage": usage, "languages": spoken}
