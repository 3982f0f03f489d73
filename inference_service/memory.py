"""Returns freed memory to the system.

glibc keeps the memory that a burst of work has freed, in case it is needed again. Without this, a worker's
resident size would stay at its peak.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

#: Seconds from the end of work until memory is returned, so that one trim follows a series of requests.
_AFTER = 3.0


class Trimmer:
    """Returns freed memory to the system some time after work has ended."""

    def __init__(self) -> None:
        # Only glibc has malloc_trim; other C libraries return memory without it.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._timer: asyncio.TimerHandle | None = None

    def work_ended(self) -> None:
        """Return memory soon."""
        if self._trim is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AFTER, self._start)

    def _start(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self._give_back)

    def _give_back(self) -> None:
        gc.collect()  # cancelled tasks are in cycles with their exceptions
        assert self._trim is not None
        self._trim(0)
