"""Threads that leave the processor to the others."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# Beside a thread of usual priority on the same core, Linux gives one of this niceness a quarter of the time.
# More would also leave it to any other process of the computer.
NICENESS = 5


def at_low_priority(work: Callable[[], Result]) -> Result:
    """What `work` returns. The threads that it starts keep the low priority."""

    def lowered() -> Result:
        # Linux counts niceness by thread, and a new thread has that of the one which starts it.
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
        return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lowered).result()
