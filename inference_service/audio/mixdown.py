"""Mixes several channels into one: their average, unless the channels cancel each other in it.

Averaging is right for microphones in one room. A recording with one channel in opposite phase (a balanced
line split into left and right, a swapped plug, a "wide" effect) would average to near silence. There, one
channel alone holds all of the speech.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: The smallest ratio of an average's energy to the energy that unrelated channels would give. Unrelated
#: channels come close to 1, opposite phases close to 0. 10 dB lie well between.
_MIN_ENERGY_RATIO = 0.1

#: Frames that the test needs. In fewer, such as a short chunk of a stream, unrelated channels are too often
#: opposite by chance.
_MIN_FRAMES = 4000


def energy(samples: NDArray[np.float32]) -> float:
    """Return the sum of squares of float32 samples [frames]."""
    return float(np.dot(samples, samples))


def cancel(average: float, channels: Sequence[float]) -> bool:
    """Return whether channels of these energies cancel each other in an average of energy `average`."""
    return average < _MIN_ENERGY_RATIO * sum(channels) / len(channels) ** 2


def loudest(channels: Sequence[float]) -> int:
    """Return the index of the channel with the most energy."""
    return int(np.argmax(channels))


class Mixer:
    """Mixes the blocks of one recording or stream. It keeps to the channel that it chose while the channels
    cancel each other, because another one may be in opposite phase to it."""

    def __init__(self) -> None:
        self._kept: int | None = None

    def mixed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mono block [frames] of `samples` [frames, channels]."""
        channels = samples.shape[1]
        if channels == 1:
            return samples[:, 0]
        # Channel by channel: several times faster than a mean over a short last axis.
        average = np.zeros(len(samples), dtype=np.float32)
        energies = []
        for number in range(channels):
            channel = np.ascontiguousarray(samples[:, number])
            energies.append(energy(channel))
            average += channel
        average *= np.float32(1.0 / channels)
        if len(samples) >= _MIN_FRAMES:
            if not cancel(energy(average), energies):
                self._kept = None
            elif self._kept is None:
                self._kept = loudest(energies)
        if self._kept is None or self._kept >= channels:
            return average
        return np.ascontiguousarray(samples[:, self._kept])
