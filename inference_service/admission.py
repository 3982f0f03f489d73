"""Bounded work: a limited number of inferences run, a limited number wait, and the rest are refused with a
time to retry."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter

from inference_service import metrics
from inference_service.errors import Busy
from inference_service.tasks import Task

#: Longest `Retry-After`, in seconds: nobody can predict the node's load after that.
_LONGEST_RETRY = 30


class _Waiter:
    __slots__ = ("granted", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Admission:
    """Slots for the inferences of one worker: first come, first served. A task at its own limit does not
    delay the tasks behind it."""

    def __init__(
        self, limit: int, max_queue: int, queue_timeout: float, task_limits: Mapping[Task, int] | None = None
    ) -> None:
        """`limit` inferences run at once (of a task at most `task_limits[task]`). `max_queue` wait, each for
        at most `queue_timeout` seconds."""
        self.limit = limit
        self.max_queue = max_queue
        self.queue_timeout = queue_timeout
        self._task_limits = {task: min(limit, (task_limits or {}).get(task, limit)) for task in Task}
        self._running: Counter[Task] = Counter()
        self._total = 0
        self._waiting: deque[_Waiter] = deque()
        self._mean_seconds = 0.0

    @property
    def running(self) -> int:
        """Inferences that hold a slot."""
        return self._total

    @property
    def waiting(self) -> int:
        """Inferences that wait for a slot."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether one more inference would be refused."""
        return len(self._waiting) >= self.max_queue and self._total >= self.limit

    def check(self) -> None:
        """Raises Busy if one more inference would be refused. Costs less before the body is read."""
        if self.full:
            raise self._busy("queue full", f"{self._total} inferences run and {len(self._waiting)} wait")

    @asynccontextmanager
    async def place(self, task: Task) -> AsyncIterator[None]:
        """Hold a slot for `task`. Raises Busy if the queue is full or the wait is too long."""
        if self._waiting or not self._has_room(task):
            await self._wait(task)
        else:
            self._take(task)
        metrics.RUNNING.change(1)
        begun = perf_counter()
        try:
            yield
        finally:
            metrics.RUNNING.change(-1)
            # Recent inferences weigh more, because the load changes with the audio.
            self._mean_seconds += 0.1 * (perf_counter() - begun - self._mean_seconds)
            self._give_back(task)

    async def _wait(self, task: Task) -> None:
        # A slot may be free for this task although inferences of a task at its limit wait.
        if self._has_room(task) and not any(self._has_room(waiter.task) for waiter in self._waiting):
            self._take(task)
            return
        if len(self._waiting) >= self.max_queue:
            raise self._busy("queue full", f"{self._total} inferences run and {len(self._waiting)} wait")
        waiter = _Waiter(task)
        self._waiting.append(waiter)
        metrics.QUEUED.change(1)
        begun = perf_counter()
        try:
            async with asyncio.timeout(self.queue_timeout):
                await waiter.granted
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.granted.done() and not waiter.granted.cancelled():
                # The slot became free at the moment when the wait ended.
                self._give_back(task)
            if isinstance(error, TimeoutError):
                raise self._busy("queue wait", f"no place within {self.queue_timeout:g} s") from None
            raise
        finally:
            metrics.QUEUED.change(-1)
            metrics.QUEUE_SECONDS.observe(perf_counter() - begun)

    def _has_room(self, task: Task) -> bool:
        return self._total < self.limit and self._running[task] < self._task_limits[task]

    def _take(self, task: Task) -> None:
        self._running[task] += 1
        self._total += 1

    def _give_back(self, task: Task) -> None:
        self._running[task] -= 1
        self._total -= 1
        for waiter in list(self._waiting):
            if self._total >= self.limit:
                return
            if self._has_room(waiter.task) and not waiter.granted.done():
                self._waiting.remove(waiter)
                self._take(waiter.task)
                waiter.granted.set_result(None)

    def _busy(self, reason: str, said: str) -> Busy:
        metrics.REFUSED.labels(reason).inc()
        expected = self._mean_seconds * (len(self._waiting) + 1) / self.limit
        return Busy(f"the node is full: {said}", retry_after=min(_LONGEST_RETRY, max(1, math.ceil(expected))))


class Streams:
    """Open audio streams in one worker, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a slot for one stream. Raises Busy if there is none."""
        if self.open >= self.limit:
            metrics.REFUSED.labels("streams").inc()
            raise Busy(f"the node is full: {self.open} audio streams are open", retry_after=_LONGEST_RETRY)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
