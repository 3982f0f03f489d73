"""What is known of one part of a fleet: its health, its figures, its description, its last hour."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from inference_service.console.exposition import Sample
from inference_service.console.figures import Figures, between
from inference_service.console.history import History

#: Seconds. A node that died is red within a round and the time limit of its answer: 4 s. Every so many
#: rounds its metrics are read, too.
ROUND_SECONDS, METRICS_ROUNDS = 2.0, 2
#: Figures are those of this many seconds, so that one request is no spike.
_WINDOW_SECONDS = 20.0
_HOUR_POINTS = int(3600 / (ROUND_SECONDS * METRICS_ROUNDS))


@dataclass
class Watched:
    """What is known of one part now. `health` is healthy, unhealthy, down or unknown (not yet asked).

    `clock` is by how many seconds the part's clock is ahead. `certificate_ends` is in Unix seconds, None
    without TLS. `lost` are the last moments (Unix seconds) at
    which it stopped answering.
    """

    health: str = "unknown"
    reason: str = ""
    since: float = 0.0
    changed: float = 0.0
    figures: Figures | None = None
    info: dict[str, Any] | None = None
    clock: float | None = None
    certificate_ends: float | None = None
    lost: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    history: History = field(default_factory=lambda: History(_HOUR_POINTS))
    samples: list[tuple[float, Sample]] = field(default_factory=list)

    def saw(self, health: str, reason: str, now: float) -> None:
        """Records the health, and the time of its last change."""
        if health != self.health:
            if health == "down" and self.health != "unknown":
                self.lost.append(now)
            self.health, self.since = health, now
        self.reason = reason

    def measured(self, sample: Sample | None, now: float) -> None:
        """Adds a sample; None where the part gave none."""
        if sample is None:
            self.samples.clear()
            self.figures = None
        else:
            self.samples = [each for each in self.samples if now - each[0] <= _WINDOW_SECONDS]
            if self.samples:
                began, before = self.samples[0]
                self.figures = between(before, sample, now - began)
            self.samples.append((now, sample))
        self.history.add(now, self.figures)

    def described(self, info: dict[str, Any], now: float) -> None:
        """Records the node's description, and the time of its last change."""
        known = {key: value for key, value in info.items() if key != "timestamp"}
        if isinstance(told := info.get("timestamp"), int):
            # It tells whole seconds: half a second is the mean of what it leaves out.
            self.clock = told + 0.5 - now
        if self.info is not None and known != self.info:
            self.changed = now
        self.info = known
