"""One budget of bytes for everything that clients make a worker hold: bodies, decoded audio, stream buffers.

Admission counts inferences, and an inference may be 100 bytes or 100 MB. Whoever is about to hold bytes takes
them here first; a full budget refuses them (Busy), and what is held goes back when its request or stream
ends.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from inference_service import metrics
from inference_service.errors import Busy
from inference_service.memory import Trimmer

#: The share of the budget that requests may hold. Open streams find the rest: a call that is under way must
#: not end because of somebody's upload.
_FOR_REQUESTS = 0.75

#: Seconds: an upload or a decoding that holds the memory has mostly ended by then.
_RETRY_AFTER = 2

#: Bytes of a request after which freed memory is worth returning to the system.
_LARGE = 1 << 20

_current: ContextVar["Lease"] = ContextVar("lease")


def request_share(limit: int) -> int:
    """The bytes of a budget of `limit` bytes that all requests together may hold."""
    return int(limit * _FOR_REQUESTS)


class Budget:
    """The bytes that one worker may hold for its clients, `limit` in all. Safe to use from every thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._lock = threading.Lock()
        self._trimmer = Trimmer()

    @property
    def held(self) -> int:
        """Bytes that are held now."""
        return self._held

    @contextmanager
    def request(self) -> Iterator["Lease"]:
        """The lease of one request. `current` returns it to the request's tasks and threads."""
        lease = Lease(self, request_share(self.limit))
        token = _current.set(lease)
        try:
            yield lease
        finally:
            _current.reset(token)
            lease.close()
            if lease.peak >= _LARGE:
                self._trimmer.work_ended()

    def stream(self) -> "Lease":
        """The lease of one stream, which its owner closes."""
        return Lease(self, self.limit)

    def _take(self, size: int, most: int) -> None:
        with self._lock:
            if self._held + size > most:
                metrics.REFUSED.labels("bytes").inc()
                raise Busy(
                    f"the node is full: {self._held} bytes of audio and requests are held, at most {most} may"
                    f" be, and {size} more are needed",
                    retry_after=_RETRY_AFTER,
                )
            self._held += size
        metrics.BYTES_HELD.inc(size)

    def _give(self, size: int) -> None:
        with self._lock:
            self._held -= size
        metrics.BYTES_HELD.dec(size)


class Lease:
    """What one request or stream holds of the budget."""

    def __init__(self, budget: Budget, most: int) -> None:
        """`most`: the bytes that may be held in the whole budget once this lease takes some."""
        self._budget = budget
        self._most = most
        self._size = 0
        #: The most bytes that it has held at once.
        self.peak = 0
        self._closed = False
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes that this lease holds."""
        return self._size

    def take(self, size: int) -> None:
        """Hold `size` more bytes; call it before they are there.

        Raises Busy if the budget has no room for them, or if the lease is closed: a thread that still works
        for a request that has ended stops there.
        """
        with self._lock:
            if self._closed:
                raise Busy("the request has ended")
            self._budget._take(size, self._most)
            self._size += size
            self.peak = max(self.peak, self._size)

    def give(self, size: int) -> None:
        """Hold `size` bytes less."""
        with self._lock:
            if not self._closed:
                self._size -= size
                self._budget._give(size)

    def resize(self, size: int) -> None:
        """Hold `size` bytes from now on. Raises what `take` raises."""
        if size > self._size:
            self.take(size - self._size)
        else:
            self.give(self._size - size)

    @contextmanager
    def briefly(self, size: int) -> Iterator[None]:
        """Hold `size` more bytes inside the context. Raises what `take` raises."""
        self.take(size)
        try:
            yield
        finally:
            self.give(size)

    def close(self) -> None:
        """Give everything back."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._budget._give(self._size)
                self._size = 0


def current() -> Lease:
    """The lease of the request for which this task or thread works. Raises LookupError outside of one."""
    return _current.get()
