"""Turns blocks of decoded audio, of any rate and number of channels, into one mono waveform."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from inference_service.audio import mixdown
from inference_service.audio.limits import check_rate_and_channels
from inference_service.errors import BadRequest

Samples = NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]
Waveform = NDArray[np.float32]

#: Samples [frames, channels] and their rate in Hz: what every decoder yields.
Block = tuple[Samples, int]

#: Full scale of the integer sample types.
_FULL_SCALE = {np.dtype(np.int16): 32768.0, np.dtype(np.int32): 2147483648.0}

#: Samples by which the buffer of `collected` grows: ten seconds at 16 kHz.
_GROWTH = 160_000


class Mono:
    """Mixes channels and changes the rate, block by block.

    The resampler keeps its state from one block to the next, so that the borders are inaudible. Where a block
    has another rate or another number of channels than the one before, a new resampler begins.
    """

    def __init__(self, rate: int) -> None:
        """`rate` is that of the result in Hz."""
        self._rate = rate
        self._from = 0  # Hz of the last block
        self._resampler: soxr.ResampleStream | None = None
        self._mixer = mixdown.Mixer()
        self._before = 0.0  # seconds of blocks of another rate than the last one's
        self._frames = 0  # of the last rate

    @property
    def seconds(self) -> float:
        """Seconds of audio that were added."""
        return self._before + (self._frames / self._from if self._from else 0.0)

    def add(self, samples: Samples, rate: int) -> Waveform:
        """Return the next part of the waveform, float32 in [-1, 1], which may end a little before the block.

        Raises BadRequest for a rate or a number of channels out of bounds and for samples that are not
        finite.
        """
        start = np.empty(0, dtype=np.float32)
        if rate != self._from:
            start = self.finish()
            self._begin(samples, rate)
        self._frames += len(samples)
        mono = self._mixer.mixed(_floats(samples))
        if self._resampler is not None:
            mono = np.asarray(self._resampler.resample_chunk(mono), dtype=np.float32)
        return np.concatenate((start, mono)) if len(start) else mono

    def finish(self) -> Waveform:
        """Return the rest of the waveform, which the resampler held."""
        if self._resampler is None:
            return np.empty(0, dtype=np.float32)
        rest = self._resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)
        self._resampler = None
        return np.asarray(rest, dtype=np.float32)

    def _begin(self, samples: Samples, rate: int) -> None:
        check_rate_and_channels(rate, samples.shape[1], where="audio: ")
        self._before, self._frames = self.seconds, 0
        self._from = rate
        if rate != self._rate:
            self._resampler = soxr.ResampleStream(rate, self._rate, 1, dtype="float32", quality="HQ")


def waveforms(blocks: Iterable[Block], rate: int, check: Callable[[float], None]) -> Iterator[Waveform]:
    """Yield the waveform of `blocks` at `rate` Hz, float32 mono, block by block.

    `check` is called with the seconds of audio so far before each block is converted; it may raise.
    """
    mono = Mono(rate)
    for samples, block_rate in blocks:
        part = mono.add(samples, block_rate)
        check(mono.seconds)
        yield part
    yield mono.finish()


def collected(parts: Iterable[Waveform], hold: Callable[[int], None]) -> Waveform:
    """Return `parts` as one array. `hold` is called with the bytes of it before they are allocated."""
    whole = np.empty(0, dtype=np.float32)
    length = 0
    for part in parts:
        if length + len(part) > len(whole):
            size = length + max(len(part), _GROWTH)
            hold(4 * size)
            # In place: the pages move, and no second copy exists meanwhile.
            whole.resize(size, refcheck=False)
        whole[length : length + len(part)] = part
        length += len(part)
    whole.resize(length, refcheck=False)
    return whole


def _floats(samples: Samples) -> NDArray[np.float32]:
    """Return the samples as float32 in [-1, 1]. Raises BadRequest for those that are not finite."""
    scale = _FULL_SCALE.get(samples.dtype)
    if scale is not None:
        return np.multiply(samples, np.float32(1.0 / scale), dtype=np.float32, casting="unsafe")
    floats = samples.astype(np.float32, copy=False)
    if not floats.size:
        return floats
    low, high = float(floats.min()), float(floats.max())  # both are NaN if a sample is
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadRequest("audio has samples that are not finite numbers (NaN or infinity)")
    # Beyond full scale it is clipped, as players do: 1e38 would overflow in the resampler.
    return np.clip(floats, np.float32(-1.0), np.float32(1.0)) if low < -1.0 or high > 1.0 else floats
