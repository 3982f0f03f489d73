"""Decoded audio, converted only when a model asks for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import soxr
from numpy.typing import NDArray

from inference_service.audio import mixdown

#: Full scale of the integer sample types that are kept without conversion.
_FULL_SCALE = {np.dtype(np.int16): 32768.0, np.dtype(np.int32): 2147483648.0}


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Samples as they were decoded: int16, int32 or float32, shaped [frames] or [frames, channels].

    16-bit PCM stays a view of the request's own bytes until it is written into the model's input.
    """

    samples: NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]
    sample_rate: int  # Hz

    @property
    def frames(self) -> int:
        """Number of samples in each channel."""
        return int(self.samples.shape[0])

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.frames / self.sample_rate

    @property
    def duration_ms(self) -> int:
        """Length in whole milliseconds."""
        return round(1000 * self.frames / self.sample_rate)

    def windows(self, seconds: float) -> list[Audio]:
        """Windows of one length, at most `seconds`, that begin with the audio, end with it and leave nothing
        out. They overlap by a few samples where the audio cannot be cut evenly."""
        count = max(1, math.ceil(self.seconds / seconds))
        length = math.ceil(self.frames / count)
        starts = (round(at * (self.frames - length) / max(1, count - 1)) for at in range(count))
        return [Audio(self.samples[start : start + length], self.sample_rate) for start in starts]

    def parts(self, ranges: Sequence[tuple[int, int]]) -> Self:
        """Return the frames of these ranges, [start, end), as one; a view where there is only one range."""
        pieces = [self.samples[start:end] for start, end in ranges]
        samples: Any = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return type(self)(samples, self.sample_rate)

    def needs_resampling(self, sample_rate: int) -> bool:
        """Return whether `waveform(sample_rate)` resamples, which is slow enough to belong in a thread."""
        return self.sample_rate != sample_rate

    def write_into(self, out: NDArray[np.float32]) -> None:
        """Write the mono waveform in [-1, 1] at the audio's own rate into `out`, float32 [frames].

        `out` may be Triton's shared memory: this is the only pass over the samples of most requests.
        """
        scale = _FULL_SCALE.get(self.samples.dtype)
        if self.samples.ndim == 2:
            np.copyto(out, mixdown.Mixer().mixed(self.samples.astype(np.float32)))
            if scale:
                out *= np.float32(1.0 / scale)
        elif scale:
            np.multiply(self.samples, np.float32(1.0 / scale), out=out, dtype=np.float32, casting="unsafe")
        else:
            np.copyto(out, self.samples)

    def waveform(self, sample_rate: int) -> NDArray[np.float32]:
        """Return the audio as float32 mono in [-1, 1], shaped [frames], at `sample_rate` Hz.

        Channels are mixed by `mixdown`. soxr's high-quality band-limited filter changes the rate.
        """
        mono = np.empty(self.frames, dtype=np.float32)
        self.write_into(mono)
        if self.needs_resampling(sample_rate):
            return np.asarray(
                soxr.resample(mono, self.sample_rate, sample_rate, quality="HQ"), dtype=np.float32
            )
        return mono
