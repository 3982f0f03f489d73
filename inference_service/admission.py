"""Bounded work: a limited number of inferences run, a limited number wait, and the rest are refused with a
time to retry. Live speech goes before short recordings, and those before the windows of long ones."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median
from time import monotonic, perf_counter

from prometheus_client import Gauge

from inference_service import metrics, tracing
from inference_service.errors import Busy
from inference_service.tasks import Priority, Task

#: Longest `Retry-After`, in seconds: nobody can predict the node's load after that.
_LONGEST_RETRY = 30

#: Lags of streams count for so many seconds, and at most so many of them.
_LAG_AGE, _LAGS_KEPT = 15.0, 16

#: The share of the slots that windows of long recordings may hold: a short recording finds one free.
_FOR_LONG = 0.75


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What waits for a slot. `patient`: the window of a recording that was admitted already."""

    task: Task
    priority: Priority
    patient: bool


class Admission:
    """Slots for the inferences of one worker, by priority, then first come, first served. A task at its own
    limit does not delay the tasks behind it."""

    def __init__(
        self,
        limit: int,
        max_queue: int,
        queue_timeout: float,
        task_limits: Mapping[Task, int] | None = None,
        *,
        running: Gauge = metrics.RUNNING,
        queued: Gauge = metrics.QUEUED,
    ) -> None:
        """`limit` inferences run at once (of a task at most `task_limits[task]`). `max_queue` wait, each for
        at most `queue_timeout` seconds. The gauges show how many."""
        self.limit = limit
        self.max_queue = max_queue
        self.queue_timeout = queue_timeout
        self._task_limits = {task: min(limit, (task_limits or {}).get(task, limit)) for task in Task}
        self._running: Counter[Task] = Counter()
        self._running_long = 0
        self._limit_long = max(1, math.ceil(limit * _FOR_LONG))
        #: The waiting inferences in order, by the future that grants each its slot.
        self._queue: dict[asyncio.Future[None], _Wanted] = {}
        self._decoding = 0
        self._mean_seconds = 0.0
        self._running_gauge, self._queued_gauge = running, queued

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
        self._check_place(self.limit - self.running)

    @contextmanager
    def place(self, task: Task) -> Iterator[None]:
        """Hold a place in the queue while the input of an inference is decoded, which is work, too.

        Raises Busy if the inference would be refused.
        """
        self._check_place(min(self.limit - self.running, self._task_limits[task] - self._running[task]))
        self._decoding += 1
        try:
            yield
        finally:
            self._decoding -= 1

    def _check_place(self, free: int) -> None:
        """Raises Busy if those that decode and wait would fill the queue and the `free` slots."""
        if self._queued() + self._decoding >= self.max_queue + max(0, free):
            raise self._queue_full()

    @asynccontextmanager
    async def slot(
        self, task: Task, priority: Priority = Priority.SHORT, *, patient: bool = False
    ) -> AsyncIterator[None]:
        """Hold a slot for `task`. Raises Busy if the queue is full or the wait is too long.

        A `patient` one waits as long as it takes, and has no place in the queue's limit.
        """
        wanted = _Wanted(task, priority, patient)
        with tracing.span("queue"):
            if self._has_room(wanted):  # then no waiting inference could use the slot
                self._grant(wanted)
            else:
                await self._wait(wanted)
        begun = perf_counter()
        try:
            with self._running_gauge.track_inprogress():
                yield
        finally:
            # Recent inferences weigh more, because the load changes with the audio.
            self._mean_seconds += 0.1 * (perf_counter() - begun - self._mean_seconds)
            self._release(wanted)

    async def _wait(self, wanted: _Wanted) -> None:
        if not wanted.patient and self._is_queue_full():
            raise self._queue_full()
        granted = asyncio.get_running_loop().create_future()
        self._queue[granted] = wanted
        try:
            with self._queued_gauge.track_inprogress(), metrics.QUEUE_SECONDS.time():
                async with asyncio.timeout(None if wanted.patient else self.queue_timeout):
                    await granted
        except BaseException as error:
            if self._queue.pop(granted, None) is None:
                self._release(wanted)  # it was granted at the moment when the wait ended
            if isinstance(error, TimeoutError):
                raise self._busy("queue wait", f"no slot within {self.queue_timeout:g} s") from None
            raise

    def _is_queue_full(self) -> bool:
        return self._queued() >= self.max_queue

    def _queued(self) -> int:
        return sum(not wanted.patient for wanted in self._queue.values())

    def _has_room(self, wanted: _Wanted) -> bool:
        if wanted.priority is Priority.LONG and self._running_long >= self._limit_long:
            return False
        return self.running < self.limit and self._running[wanted.task] < self._task_limits[wanted.task]

    def _grant(self, wanted: _Wanted) -> None:
        self._running[wanted.task] += 1
        self._running_long += wanted.priority is Priority.LONG

    def _release(self, ended: _Wanted) -> None:
        self._running[ended.task] -= 1
        self._running_long -= ended.priority is Priority.LONG
        for granted, wanted in sorted(self._queue.items(), key=lambda item: item[1].priority):
            if self._has_room(wanted) and not granted.done():  # done: its request was cancelled
                del self._queue[granted]
                self._grant(wanted)
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
    """Open audio streams in one worker: at most `limit`, and no further one while the open ones lag."""

    def __init__(self, limit: int, max_lag: float) -> None:
        """`max_lag`: seconds by which final results may be late before another stream is refused."""
        self.limit = limit
        self.open = 0
        self._max_lag = max_lag
        self._lags: deque[tuple[float, float]] = deque(maxlen=_LAGS_KEPT)

    @property
    def lag(self) -> float:
        """The median of the last lags in seconds; 0 if there is none of the last `_LAG_AGE` seconds."""
        oldest = monotonic() - _LAG_AGE
        recent = [lag for at, lag in self._lags if at >= oldest]
        return median(recent) if recent else 0.0

    def note_lag(self, seconds: float) -> None:
        """A final result came `seconds` after it was due."""
        metrics.STREAM_LAG.labels("final").observe(seconds)
        self._lags.append((monotonic(), seconds))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for one stream. Raises Busy if there is none, or if the open streams lag."""
        if self.open >= self.limit:
            raise self._busy("streams", f"{self.open} audio streams are open")
        if self.open and (lag := self.lag) > self._max_lag:
            raise self._busy("stream lag", f"results of {self.open} audio streams come {lag:.1f} s late")
        self.open += 1
        try:
            with metrics.STREAMS_OPEN.track_inprogress():
                yield
        finally:
            self.open -= 1

    def _busy(self, label: str, reason: str) -> Busy:
        metrics.REFUSED.labels(label).inc()
        return Busy(f"the node is full: {reason}", retry_after=_LONGEST_RETRY)
