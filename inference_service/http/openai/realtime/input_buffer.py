"""The input audio buffer of a real-time session: its audio, the turns in it, and the items they become."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_service.errors import BadRequest, Draining
from inference_service.http.openai.errors import FieldRefused
from inference_service.http.openai.realtime.config import SessionConfig
from inference_service.http.openai.realtime.events import new_id
from inference_service.http.openai.realtime.items import Item, Tell
from inference_service.http.openai.realtime.turns import TurnDetector
from inference_service.streaming import Connection

#: Seconds of audio that are looked at at once, so that a big append does not hold the event loop.
_SLICE_SECONDS = 1.0

#: Milliseconds that a client may commit at least, as in OpenAI's API.
_LEAST_MS = 100

#: Items that are recognised at once. With more, the client waits: it sent a file, nobody speaks so fast.
_MOST_ITEMS = 4

#: Opens the stream of an item under a configuration.
Open = Callable[[SessionConfig], Connection]


class BufferEmpty(BadRequest):
    """There is too little audio to commit."""

    code = "input_audio_buffer_commit_empty"


class InputBuffer:
    """The audio of one session. Audio of an item is recognised while it comes, before it is committed."""

    def __init__(self, config: SessionConfig, open: Open, tell: Tell, *, beta: bool) -> None:
        self.config = config
        self.beta = beta  # which events tell of an item
        self.is_ending = False  # no further item begins
        self._open = open
        self._tell = tell
        self._item: Item | None = None  # the one that audio is added to
        self._items: set[Item] = set()  # those without their last event
        self._last_item_id: str | None = None  # of the last that was committed
        self._turns: TurnDetector | None = None
        self._kept = _empty()  # the audio before a turn: its beginning belongs to the turn
        self._held = b""  # the start of a sample that the next append completes
        self._position = 0  # samples of this format so far
        self._elapsed_ms = 0.0  # of audio in former formats

    def configure(self, config: SessionConfig) -> None:
        """Take the configuration for the audio that follows. Raises FieldRefused for a format that changes
        inside an item."""
        before = self.config
        if config.format != before.format:
            if self._item is not None:
                raise FieldRefused("session", "the format cannot change before the buffer is committed")
            self._elapsed_ms += 1000 * self._position / before.format.rate
            self._position = 0
            self._forget_audio()
        if (config.turns, config.format) != (before.turns, before.format):
            self._turns = None
        self.config = config

    async def append(self, data: bytes) -> None:
        """Add audio in the session's format, cut at any byte. Raises Draining where no item may begin."""
        format = self.config.format
        data = self._held + data
        whole = len(data) - len(data) % format.sample_bytes
        self._held = data[whole:]
        step = int(_SLICE_SECONDS * format.rate) * format.sample_bytes
        for start in range(0, whole, step):
            await asyncio.sleep(0)
            samples = format.samples(data[start : min(start + step, whole)])
            if self.config.turns is None:
                self._position += len(samples)
                await (self._item or await self._new_item()).append(samples)
            else:
                await self._append_by_turns(samples)

    async def commit(self) -> None:
        """End the item, as the client asks. Raises BufferEmpty if it has next to no audio."""
        item = self._item
        milliseconds = 1000 * (item.seconds if item else len(self._kept) / self.config.format.rate)
        if milliseconds < _LEAST_MS:
            raise BufferEmpty(
                f"the buffer is too small to commit: {_LEAST_MS} ms of audio are needed, and it has "
                f"{milliseconds:.2f} ms"
            )
        if item is None:
            item = await self._new_item()
            await item.append(self._kept)
        self._kept = _empty()
        if self._turns is not None:
            self._turns.forget_turn()
        await self._commit(item)

    async def clear(self) -> None:
        """Drop the audio that is not committed."""
        if self._item is not None:
            await self._item.drop()
            self._item = None
        self._forget_audio()
        await self._tell("input_audio_buffer.cleared", {})

    async def finish(self) -> None:
        """Commit the item that is open, and return once every item has its last event."""
        if self._item is not None and self._item.seconds * 1000 >= _LEAST_MS:
            await self.commit()
        while self._items:
            await asyncio.wait({item.task for item in self._items})

    async def close(self) -> None:
        """Drop all items."""
        for item in list(self._items):
            await item.drop()

    async def _append_by_turns(self, samples: NDArray[np.int16]) -> None:
        """Give the samples to the turns that they belong to, and keep the last of those before a turn."""
        settings, rate = self.config.turns, self.config.format.rate
        assert settings is not None
        if self._turns is None:
            in_turn = self._item is not None
            self._turns = TurnDetector(settings, rate, self._position, is_speech=in_turn)
        padding = settings.prefix_padding_ms * rate // 1000
        heard = np.concatenate((self._kept, samples))
        first = taken = self._position - len(self._kept)
        self._kept = _empty()
        self._position += len(samples)
        for begins, at in self._turns.feed(samples):
            if begins:
                taken = max(taken, at - padding)
                item = await self._new_item()
                await self._tell_speech("started", item, audio_start_ms=self._milliseconds(taken))
            elif self._item is not None:
                await self._item.append(heard[taken - first : at - first])
                taken = at
                await self._tell_speech("stopped", self._item, audio_end_ms=self._milliseconds(at))
                await self._commit(self._item)
        rest = heard[taken - first :]
        if self._item is not None:
            await self._item.append(rest)
        else:
            self._kept = rest[max(0, len(rest) - padding - self._turns.onset_samples) :].copy()

    async def _commit(self, item: Item) -> None:
        self._item = None
        previous, self._last_item_id = self._last_item_id, item.id
        place = {"previous_item_id": previous, "item_id": item.id}
        await self._tell("input_audio_buffer.committed", place)
        for name in ("created",) if self.beta else ("added", "done"):
            content = {"previous_item_id": previous, "item": _shown(item)}
            await self._tell(f"conversation.item.{name}", content)
        await item.finish()

    async def _new_item(self) -> Item:
        while len(self._items) >= _MOST_ITEMS:
            tasks = {item.task for item in self._items}
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if self.is_ending:
            raise draining()
        item = self._item = Item(new_id("item"), self._open(self.config), self.config.format.rate, self._tell)
        self._items.add(item)
        item.task.add_done_callback(lambda _: self._items.discard(item))
        return item

    def _forget_audio(self) -> None:
        self._kept, self._held = _empty(), b""
        if self._turns is not None:
            self._turns.forget_turn()

    def _milliseconds(self, position: int) -> int:
        return round(self._elapsed_ms + 1000 * position / self.config.format.rate)

    async def _tell_speech(self, what: str, item: Item, **when: int) -> None:
        await self._tell(f"input_audio_buffer.speech_{what}", {**when, "item_id": item.id})


def draining() -> Draining:
    """The error with which a session ends on a node that stops."""
    return Draining("the node is stopping: open the session again, and another node takes it")


def _empty() -> NDArray[np.int16]:
    return np.empty(0, dtype=np.int16)


def _shown(item: Item) -> dict[str, Any]:
    """The item as an event shows it: it has its audio, and no transcript yet."""
    return {
        "id": item.id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_audio", "transcript": None}],
    }
