"""An hour of figures, in memory."""

from array import array
from collections.abc import Sequence
from typing import Final

from inference_service.console.figures import Figures

#: The figures that are drawn over time.
SERIES: Final = (
    "requests",
    "errors",
    "p50",
    "p99",
    "audio",
    "running",
    "queued",
    "streams",
    "gpu",
    "gpu_memory",
)
_NOTHING = float("nan")


class History:
    """The last `points` moments of one part. A moment without a reading is a gap."""

    def __init__(self, points: int) -> None:
        self._points = points
        self._columns = {name: array("f", [_NOTHING]) * points for name in SERIES}
        self._times = array("d", [0.0]) * points
        self._next = 0
        self._count = 0

    def add(self, when: float, figures: Figures | None) -> None:
        """Adds a moment (Unix seconds); None is a gap."""
        slot = self._next
        self._times[slot] = when
        for name, column in self._columns.items():
            value = getattr(figures, name) if figures is not None else None
            column[slot] = _NOTHING if value is None else float(value)
        self._next = (slot + 1) % self._points
        self._count = min(self._count + 1, self._points)

    def recall(self, moments: Sequence[tuple[float, Figures]]) -> None:
        """Puts moments, oldest first, before those that are there."""
        kept = [
            (self._times[slot], [column[slot] for column in self._columns.values()])
            for slot in ((self._next - self._count + number) % self._points for number in range(self._count))
        ]
        room = self._points - len(kept)
        older = [each for each in moments if not kept or each[0] < kept[0][0]]
        self._next = self._count = 0
        for when, figures in older[max(len(older) - room, 0) :]:
            self.add(when, figures)
        for when, values in kept:
            slot = self._next
            self.add(when, None)
            for column, value in zip(self._columns.values(), values, strict=True):
                column[slot] = value

    def columns(self, names: Sequence[str] = SERIES, since: float = 0.0) -> dict[str, list[float | None]]:
        """The times (Unix seconds, under `time`) and values after `since`, oldest first; None is a gap."""
        start = (self._next - self._count) % self._points
        slots = [(start + number) % self._points for number in range(self._count)]
        slots = [slot for slot in slots if self._times[slot] > since]
        told: dict[str, list[float | None]] = {"time": [round(self._times[slot], 1) for slot in slots]}
        for name in names:
            column = self._columns[name]
            told[name] = [None if column[slot] != column[slot] else round(column[slot], 4) for slot in slots]
        return told
