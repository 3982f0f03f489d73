"""Limits of a recording: its rate and channels, and what decoding it may take."""

from collections.abc import Callable
from dataclasses import dataclass

from inference_service.errors import BadRequest, TooLarge

#: Hz, the rate of speech models.
SPEECH_RATE = 16_000

#: Hz. A lower rate carries no speech; no recorder uses a higher one.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1000, 384_000

#: More than any microphone array in a meeting room.
MAX_CHANNELS = 64


def check_rate_and_channels(sample_rate: int, channels: int, *, where: str) -> None:
    """Raise BadRequest, beginning with `where`, for a sample rate (Hz) or channel count out of bounds."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise BadRequest(
            f"{where}sample_rate: {sample_rate} is not allowed; {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz are"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadRequest(f"{where}channels: {channels} is not allowed; 1 to {MAX_CHANNELS} are")


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one decoding.

    `rate` is the result's in Hz. `check` is called often and raises to stop. `hold` is called with the bytes
    of the waveform before they are allocated, with a growing number each time, and raises to refuse them.
    """

    max_seconds: float
    rate: int = SPEECH_RATE
    check: Callable[[], None] = lambda: None
    hold: Callable[[int], None] = lambda size: None

    def check_length(self, seconds: float) -> None:
        """Raise TooLarge for a recording of that many seconds."""
        if seconds > self.max_seconds:
            raise TooLarge(f"audio is {seconds:.1f} s long; at most {self.max_seconds:g} s are allowed")

    def check_so_far(self, seconds: float) -> None:
        """Raise TooLarge once so many seconds are decoded, and what `check` raises."""
        self.check()
        if seconds > self.max_seconds:
            raise TooLarge(f"audio is too long: at most {self.max_seconds:g} s are allowed")
