"""Server-side turn detection: where speech begins and ends in audio that is still coming.

As everywhere in the service, levels decide: a frame is speech if it is louder than the quiet of the last
seconds. What is no speech costs an empty transcript; a word that a stricter detector drops is lost.
"""

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Seconds of one frame.
FRAME_SECONDS = 0.03

#: Frames whose quietest are the quiet: natural speech of ten seconds has pauses between words.
_REMEMBERED = 333
_QUIET_SHARE, _LOUD_SHARE = 0.1, 0.9

#: The quiet is what was heard of it once there is so much contrast in decibels, or after so many frames:
#: three seconds without contrast are noise. Until then it is this level, in decibels of full scale.
_CONTRAST, _STEADY_FRAMES = 12.0, 100
_FIRST_QUIET = -65.0

#: What is less loud is no quiet of a room: a microphone that is off, or what a client fills up with.
_DIGITAL_SILENCE = -90.0

#: Decibels above the quiet, and of full scale, from which a frame is speech: at a threshold of 0, and by how
#: much more at a threshold of 1.
_ABOVE_QUIET, _MORE_ABOVE_QUIET = 3.0, 12.0
_AUDIBLE, _MORE_AUDIBLE = -75.0, 30.0

#: Speech goes on at levels this much lower than those at which it begins.
_HYSTERESIS = 3.0

#: Speech begins with so many loud frames of the last ones: a click is shorter.
_LOUD_FRAMES, _LAST_FRAMES = 3, 5


@dataclass(frozen=True, slots=True)
class TurnSettings:
    """`server_vad`: `threshold` in [0, 1], times in milliseconds. The defaults are OpenAI's."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 500


class TurnDetector:
    """Detects turns in 16-bit mono samples of one rate."""

    def __init__(
        self, settings: TurnSettings, sample_rate: int, position: int = 0, *, is_speech: bool = False
    ) -> None:
        """`position`: of the first sample. `is_speech`: the first samples belong to a turn."""
        self._size = max(1, round(FRAME_SECONDS * sample_rate))
        self._above = _ABOVE_QUIET + _MORE_ABOVE_QUIET * settings.threshold
        self._audible = _AUDIBLE + _MORE_AUDIBLE * settings.threshold
        self._silent_frames = max(1, round(settings.silence_duration_ms / 1000 / FRAME_SECONDS))
        self._rest = np.empty(0, dtype=np.int16)
        self._levels: deque[float] = deque()
        self._sorted: list[float] = []
        self._last: deque[bool] = deque(maxlen=_LAST_FRAMES)
        self._quiet_for = 0
        self._position = position  # after the last whole frame
        self._is_speech = is_speech

    @property
    def onset_samples(self) -> int:
        """The most samples by which the beginning of speech lies before the moment of its detection."""
        return (_LAST_FRAMES + 1) * self._size

    def feed(self, samples: NDArray[np.int16]) -> list[tuple[bool, int]]:
        """The changes in `samples`, which continue the earlier ones: whether speech begins, and its position
        in samples. It begins with its first loud frame, and ends with the silence after it."""
        samples = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        whole = len(samples) // self._size
        self._rest = samples[whole * self._size :].copy()
        frames = samples[: whole * self._size].reshape(whole, self._size).astype(np.float32) / 32768
        levels = 10 * np.log10(np.square(frames).mean(axis=1) + 1e-10)
        return [change for level in levels.tolist() if (change := self._frame(level)) is not None]

    def forget_turn(self) -> None:
        """End the turn in which the speech is: its audio was committed or dropped."""
        self._is_speech = False
        self._last.clear()

    def _frame(self, level: float) -> tuple[bool, int] | None:
        self._position += self._size
        needed = max(self._audible, self._quiet(level) + self._above)
        if self._is_speech:
            self._quiet_for = 0 if level > needed - _HYSTERESIS else self._quiet_for + 1
            if self._quiet_for >= self._silent_frames:
                self.forget_turn()
                return False, self._position
            return None
        self._last.append(level > needed)
        if sum(self._last) < _LOUD_FRAMES:
            return None
        start = self._position - self._size * (len(self._last) - self._last.index(True))
        self._is_speech = True
        self._quiet_for = 0
        return True, start

    def _quiet(self, level: float) -> float:
        """The level of the quietest frames, with that of another one."""
        if level > _DIGITAL_SILENCE:
            self._levels.append(level)
            insort(self._sorted, level)
        count = len(self._levels)
        if count > _REMEMBERED:
            del self._sorted[bisect_left(self._sorted, self._levels.popleft())]
            count -= 1
        if not count:
            return _FIRST_QUIET
        quiet, loud = (self._sorted[int(share * count)] for share in (_QUIET_SHARE, _LOUD_SHARE))
        return quiet if loud - quiet > _CONTRAST or count >= _STEADY_FRAMES else min(quiet, _FIRST_QUIET)
