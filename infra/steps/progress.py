"""Says on standard error how far a long copy is: Pulumi shows these lines while a step runs."""

import sys
import time
from collections.abc import Callable
from typing import IO, cast

#: Seconds between two lines; a shorter copy has none.
EVERY = 10.0


def told(out: IO[bytes], what: str, size: int) -> IO[bytes]:
    """`out` for somebody who only writes, of whose `size` bytes in all it says how far they are."""
    return cast(IO[bytes], Told(out, what, size))


class Told:
    """A stream that passes on what is written to it, of `size` bytes in all, and says how far it is."""

    def __init__(
        self, out: IO[bytes], what: str, size: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out, self._what, self._size, self._clock = out, what, size, clock
        self._began = self._told = clock()
        self._written = 0

    def write(self, data: bytes) -> int:
        """Write all of `data`. Raises what the stream raises."""
        self._out.write(data)
        self._written += len(data)
        now = self._clock()
        if now - self._told >= EVERY:
            self._told = now
            print(self._text(now - self._began), file=sys.stderr, flush=True)
        return len(data)

    def _text(self, seconds: float) -> str:
        # The archive's headers make it a little longer than its files.
        left = max(0.0, seconds * (self._size / self._written - 1))
        unit = 1_000_000
        copied = f"{min(self._written, self._size) // unit} of {self._size // unit} MB"
        return f"{self._what}: {copied} copied, about {left:.0f} s left"
