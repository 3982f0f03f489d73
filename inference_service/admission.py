"""Bounded work: a limited number of inferences run, a limited number wait, and the rest are refused with a
time to retry."""

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter

from inference_service import metrics
from inference_service.errors import Busy
from inference_service.tasks import Task

#: Longest `Retry-After`, in seconds: nobody can predict the node's load after that.
_LONGEST_RETRY = 30


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
        #: The waiting inferences in order, by the future that grants each its slot.
        self._queue: dict[asyncio.Future[None], Task] = {}
        self._mean_seconds = 0.0

    @property
    def running(self) -> int:
        """Inferences that hold a slot."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """Inferences that wait for a slot."""
        return len(self._queue)

    def check(self) -> None:
        """Raises Busy if one more inference would be refused. Costs less before the body is read."""
        if self.waiting >= self.max_queue and self.running >= self.limit:
            raise self._queue_full()

    @asynccontextmanager
    async def slot(self, task: Task) -> AsyncIterator[None]:
        """Hold a slot for `task`. Raises Busy if the queue is full or the wait is too long."""
        if self._has_room(task):  # then no waiting inference could use the slot
            self._running[task] += 1
        else:
            await self._wait(task)
        begun = perf_counter()
        try:
            with metrics.RUNNING.track_inprogress():
                yield
        finally:
            # Recent inferences weigh more, because the load changes with the audio.
            self._mean_seconds += 0.1 * (perf_counter() - begun - self._mean_seconds)
            self._release(task)

    async def _wait(self, task: Task) -> None:
        if self.waiting >= self.max_queue:
            raise self._queue_full()
        granted = asyncio.get_running_loop().create_future()
        self._queue[granted] = task
        try:
            with metrics.QUEUED.track_inprogress(), metrics.QUEUE_SECONDS.time():
                async with asyncio.timeout(self.queue_timeout):
                    await granted
        except BaseException as error:
            if self._queue.pop(granted, None) is None:
                self._release(task)  # it was granted at the moment when the wait ended
            if isinstance(error, TimeoutError):
                raise self._busy("queue wait", f"no slot within {self.queue_timeout:g} s") from None
            raise

    def _has_room(self, task: Task) -> bool:
        return self.running < self.limit and self._running[task] < self._task_limits[task]

    def _release(self, task: Task) -> None:
        self._running[task] -= 1
        for granted, waiting in list(self._queue.items()):
            if self._has_room(waiting) and not granted.done():  # done: its request was cancelled
                del self._queue[granted]
                self._running[waiting] += 1
                granted.set_result(None)

    def _queue_full(self) -> Busy:
        return self._busy("queue full", f"{self.running} inferences run and {self.waiting} wait")

    def _busy(self, label: str, reason: str) -> Busy:
        metrics.REFUSED.labels(label).inc()
        expected = self._mean_seconds * (self.waiting + 1) / self.limit
        return Busy(
            f"the node is full: {reason}", retry_after=min(_LONGEST_RETRY, max(1, math.ceil(expected)))
        )


class Streams:
    """Open audio streams in one worker, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.open = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for one stream. Raises Busy if there is none."""
        if self.open >= self.limit:
            metrics.REFUSED.labels("streams").inc()
            raise Busy(f"the node is full: {self.open} audio streams are open", retry_after=_LONGEST_RETRY)
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1
