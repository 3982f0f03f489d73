"""Freed memory, given back to the system.

glibc keeps what a burst of work freed, in case it is needed again; a worker would look for ever as big as it
was when it was busiest.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc

#: Seconds from the end of a piece of work to the giving back, so that a series of them is followed by one.
_AFTER = 3.0


class Trimmer:
    """Gives freed memory back some time after work has ended."""

    def __init__(self) -> None:
        # Only glibc has it; other C libraries give memory back by themselves.
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._timer: asyncio.TimerHandle | None = None

    def work_ended(self) -> None:
        """Give memory back soon."""
        if self._trim is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AFTER, self._start)

    def _start(self) -> None:
        self._timer = None
        asyncio.get_running_loop().run_in_executor(None, self._give_back)

    def _give_back(self) -> None:
        gc.collect()  # cancelled tasks are in cycles with their exceptions
        assert self._trim is not None
        self._trim(0)
