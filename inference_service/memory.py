"""Returns freed memory to the system.

glibc keeps the memory that a burst of work has freed, in case it is needed again. Without this, a worker's
resident size would stay at its peak.
"""

import asyncio
import ctypes
import gc

#: Seconds from the end of work until memory is returned, so that one trim follows a series of requests.
_AFTER = 3.0


class Trimmer:
    """Returns freed memory to the system some time after work has ended."""

    def __init__(self) -> None:
        # Only glibc has malloc_trim; other C libraries return memory without it.
        self._malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda padding: None)
        self._planned = False

    def work_ended(self) -> None:
        """Return memory soon. Call it in the event loop."""
        if not self._planned:
            self._planned = True
            loop = asyncio.get_running_loop()
            loop.call_later(_AFTER, loop.run_in_executor, None, self._trim)

    def _trim(self) -> None:
        self._planned = False
        gc.collect()  # cancelled tasks are in cycles with their exceptions
        self._malloc_trim(0)
