"""How often partial results come: as often as asked, and rarer the busier the node."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from inference_service import metrics

#: Partial results of one worker that are recognised at once; the rest of the node is for other work. Streams
#: that have no text yet have places of their own: people wait for the first words.
_AT_ONCE, _FIRST_AT_ONCE = 3, 2

#: A partial result that takes so many times as long as on an idle node is still taken for normal.
_NORMAL = 1.5

#: The most by which an interval is stretched.
_MOST = 8.0

#: The idle node's time is the least that was seen. It grows by this share with each result, so that a change
#: of the model is noticed.
_FORGETTING = 0.02

#: The weight of the last result in the mean time.
_WEIGHT = 0.2


class Pace:
    """The pace of partial results of one worker's streams, from the times that they took."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._first_places = asyncio.Semaphore(_FIRST_AT_ONCE)
        self._least = 0.0
        self._mean = 0.0

    def interval(self, asked: float) -> float:
        """Seconds between two partial results of a stream whose client asked for `asked`."""
        if not self._least:
            return asked
        return asked * min(_MOST, max(1.0, self._mean / (_NORMAL * self._least)))

    @asynccontextmanager
    async def place(self, *, first: bool) -> AsyncIterator[None]:
        """Wait for a place, do a recognition in it, and take its time, the wait included.

        `first`: the stream has no text yet."""
        begun = monotonic()
        async with self._first_places if first else self._places:
            yield
        self.note(monotonic() - begun)

    def note(self, seconds: float) -> None:
        """A partial result took `seconds`."""
        metrics.STREAM_LAG.labels("partial").observe(seconds)
        self._least = min(seconds, self._least * (1 + _FORGETTING)) if self._least else seconds
        self._mean += _WEIGHT * (seconds - self._mean) if self._mean else seconds
