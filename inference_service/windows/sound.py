"""Where a recording has sound: the level of each frame against the quiet around it.

A detector of speech (Silero) would drop more. It also drops words: quiet ones, and those beside a pause. The
speech model has that detector and uses it on each window, so here only what is as quiet as the pauses counts
as a pause. That takes numpy alone, a millisecond for a minute of audio, and no model in each worker.
"""

import numpy as np
from numpy.typing import NDArray

from inference_service.audio import Audio

#: Seconds of one frame.
FRAME_SECONDS = 0.03

#: Frames that are measured at once: a minute, so that the memory is bounded.
_BLOCK_FRAMES = 2000

#: Decibels above the quiet around it from which a frame is sound.
_ABOVE_QUIET = 6.0

#: Decibels of full scale (root mean square) below which nothing is sound: speech that peaks at -50 is louder.
_INAUDIBLE = -75.0

#: The quiet around a frame is that of the quietest of these sections of this many frames (10 s), three to
#: either side: noise that begins or ends does not hide speech.
_SECTION_FRAMES, _SECTIONS_AROUND = 333, 3
_QUIET_PERCENTILE, _LOUD_PERCENTILE = 5, 95

#: Decibels between quiet and loud sections below which a pause cannot be told from sound: all of it is kept.
_LEAST_CONTRAST = 10.0


def frame_size(audio: Audio) -> int:
    """The number of samples of one frame."""
    return max(1, round(FRAME_SECONDS * audio.sample_rate))


def levels(audio: Audio) -> NDArray[np.float32]:
    """The level of each whole frame in decibels of full scale, [frames]: the mean power of all channels."""
    size = frame_size(audio)
    step = size * _BLOCK_FRAMES
    blocks = [
        _block_levels(audio.parts([(start, min(start + step, audio.frames))]), size)
        for start in range(0, audio.frames, step)
    ]
    return np.concatenate(blocks)


def _block_levels(audio: Audio, size: int) -> NDArray[np.float32]:
    samples = audio.samples
    full_scale = 1 << (8 * samples.dtype.itemsize - 1) if samples.dtype.kind == "i" else 1
    power = np.square(samples.astype(np.float32) / np.float32(full_scale))
    if power.ndim == 2:
        power = power.mean(axis=1)
    whole = len(power) // size
    mean = power[: whole * size].reshape(whole, size).mean(axis=1)
    return np.asarray(10 * np.log10(mean + 1e-10), dtype=np.float32)


def is_sound(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether each frame is sound rather than a pause."""
    if not len(levels):
        return np.zeros(0, dtype=bool)
    sections = [
        np.percentile(levels[start : start + _SECTION_FRAMES], (_QUIET_PERCENTILE, _LOUD_PERCENTILE))
        for start in range(0, len(levels), _SECTION_FRAMES)
    ]
    thresholds = []
    for at in range(len(sections)):
        quiet, loud = np.transpose(sections[max(0, at - _SECTIONS_AROUND) : at + _SECTIONS_AROUND + 1])
        is_even = loud.max() - quiet.min() < _LEAST_CONTRAST
        thresholds.append(_INAUDIBLE if is_even else max(_INAUDIBLE, quiet.min() + _ABOVE_QUIET))
    return np.asarray(levels > np.repeat(thresholds, _SECTION_FRAMES)[: len(levels)])
