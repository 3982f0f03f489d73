"""The order in which windows are decoded, and the threads that decode them.

Triton's scheduler orders requests; this one orders the windows of those that it handed over. A lane takes
some windows of one kind of work, decodes them in one call and comes back, so a long file never holds the
others up for more than a call.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from enum import IntEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Work(IntEnum):
    """Kinds of work, the most urgent first: final results of live speech, its drafts, short requests, windows
    of long files."""

    LIVE = 1
    DRAFT = 2
    SHORT = 3
    LONG = 4


# What a lane does, the most urgent first.
Lane = Sequence[Work]


def lanes_of(lanes: int, *, long_apart: bool) -> list[Lane]:
    """The lanes of a device with room for `lanes` calls at once.

    One lane more than there is room for takes urgent work only, which so starts at once. With `long_apart`
    long files have lanes of their own, whose threads run when the others have nothing to do. Drafts, of
    which there are always more, then get at most half of the others.
    """
    if not long_apart:
        return [tuple(Work)] * lanes + [tuple(Work)[:-1]]
    with_drafts = max(1, lanes // 2)
    return [
        *[(Work.LIVE, Work.DRAFT, Work.SHORT)] * with_drafts,
        *[(Work.LIVE, Work.SHORT)] * (lanes - with_drafts),
        (Work.LIVE,) if lanes > 1 else (Work.LIVE, Work.SHORT),
        *[(Work.LONG,)] * lanes,
    ]


class Lanes(Generic[Item]):
    """Threads that call `decode` with some items of one kind of work; it must not raise.

    `batch`: how many items at most, by their kind. Where lanes do long files among other work, one of them
    rests while anything else is decoded."""

    def __init__(
        self, decode: Callable[[list[Item], Work], None], lanes: Sequence[Lane], batch: Mapping[Work, int]
    ) -> None:
        self._decode = decode
        self._batch = batch
        self._lanes_for = Counter(work for lane in lanes for work in lane)
        self._long_apart = all(len(lane) == 1 for lane in lanes if Work.LONG in lane)
        self._waiting: dict[Work, deque[Item]] = {work: deque() for work in Work}
        self._running: Counter[Work] = Counter()  # calls
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=f"asr lane {number}")
            for number, lane in enumerate(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, items: Sequence[Item], work: Work) -> None:
        """Let the items be decoded, after those of the same kind and of more urgent ones."""
        with self._changed:
            self._waiting[work].extend(items)
            self._changed.notify_all()

    def is_awaited(self, work: Work) -> bool:
        """Whether work of this kind waits for a lane."""
        with self._changed:
            return bool(self._waiting[work])

    def close(self) -> None:
        """Decode what waits, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, lane: Lane) -> None:
        while (taken := self._take(lane)) is not None:
            work, items = taken
            self._decode(items, work)
            with self._changed:
                self._running[work] -= 1
                self._changed.notify_all()

    def _take(self, lane: Lane) -> tuple[Work, list[Item]] | None:
        with self._changed:
            while True:
                for work in lane:
                    waiting = self._waiting[work]
                    if waiting and not (work is Work.LONG and self._rests()):
                        # What waits is shared out: two lanes with one window each end before one with two.
                        count = min(self._batch[work], -(-len(waiting) // self._lanes_for[work]))
                        self._running[work] += 1
                        return work, [waiting.popleft() for _ in range(count)]
                if self._closing and not any(self._waiting[work] for work in lane):
                    return None
                self._changed.wait()

    def _rests(self) -> bool:
        """Whether another call for long files would slow other work down."""
        if self._long_apart:
            return False
        long = self._running[Work.LONG]
        return 0 < self._lanes_for[Work.LONG] - 1 <= long and self._running.total() > long


class Room:
    """Bounds the requests that wait inside the model: what more there is waits in Triton's queue, where
    requests of better priority overtake it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._inside: set[Hashable] = set()
        self._changed = threading.Condition()

    def enter(self, request: Hashable) -> None:
        """Count the request, also where there is no room for it."""
        with self._changed:
            self._inside.add(request)

    def leave(self, request: Hashable) -> None:
        """Count the request no longer: it is being decoded, or answered."""
        with self._changed:
            self._inside.discard(request)
            self._changed.notify_all()

    def wait(self) -> None:
        """Return once there is room for another request."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._inside) < self._size)
