"""The order in which windows are decoded, and the threads that decode them.

Triton's scheduler orders requests; this one orders the windows of those that it handed over. A lane takes
some windows of one priority, decodes them in one call and comes back, so a long file never holds the others
up for more than a call. One lane more than the device has room for takes short requests only: they start at
once, and while one is decoded a lane of the long ones rests.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from options import PRIORITIES

Item = TypeVar("Item")

# Of windows of long files.
LONG = PRIORITIES[-1]


class Lanes(Generic[Item]):
    """Threads that call `decode` with up to `batch` items of one priority; it must not raise."""

    def __init__(self, decode: Callable[[list[Item]], None], *, lanes: int, batch: int) -> None:
        self._decode = decode
        self._lanes = lanes
        self._batch = batch
        self._waiting: dict[int, deque[Item]] = {priority: deque() for priority in PRIORITIES}
        self._running: Counter[int] = Counter()  # calls, by priority
        self._changed = threading.Condition()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._run, args=(priorities,), name=f"asr lane {number}")
            for number, priorities in enumerate([PRIORITIES] * lanes + [PRIORITIES[:-1]])
        ]
        for thread in self._threads:
            thread.start()

    def put(self, items: Sequence[Item], priority: int) -> None:
        """Let the items be decoded, after those of the same and of better priority."""
        with self._changed:
            self._waiting[priority].extend(items)
            self._changed.notify_all()

    def close(self) -> None:
        """Decode what waits, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self, priorities: Sequence[int]) -> None:
        while (taken := self._take(priorities)) is not None:
            priority, items = taken
            self._decode(items)
            with self._changed:
                self._running[priority] -= 1
                self._changed.notify_all()

    def _take(self, priorities: Sequence[int]) -> tuple[int, list[Item]] | None:
        with self._changed:
            while True:
                for priority in priorities:
                    waiting = self._waiting[priority]
                    if waiting and not (priority == LONG and self._rests()):
                        # What waits is shared out: two lanes with one window each end before one with two.
                        count = min(self._batch, -(-len(waiting) // self._lanes))
                        self._running[priority] += 1
                        return priority, [waiting.popleft() for _ in range(count)]
                if self._closing and not any(self._waiting[priority] for priority in priorities):
                    return None
                self._changed.wait()

    def _rests(self) -> bool:
        """Whether another call for long files would slow a short request down."""
        long = self._running[LONG]
        return 0 < self._lanes - 1 <= long and self._running.total() > long


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
