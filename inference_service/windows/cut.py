"""Windows of a recording: long pauses shortened, and cuts where it is quietest.

Whisper's cost of a window is that of 30 s however little is in it, so windows are filled. They never overlap,
and together they have all sound of the recording.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference_service.audio import Audio
from inference_service.windows.sound import FRAME_SECONDS, frame_size, is_sound, levels

#: The share of the longest window that is filled: in full ones Whisper skips more of what is said twice.
_FILLED = 28 / 30

#: The last part of a window, as a share of it, in which its end is looked for.
_SEARCHED = 0.2

#: Frames over which quiet is averaged in that search (0.3 s): the gaps inside words are shorter.
_PAUSE_FRAMES = 10

#: Seconds of a pause that are kept beside sound: they help with the first and the last words.
_SURROUNDINGS = 2.0


@dataclass(frozen=True, slots=True)
class Window:
    """Ranges of a recording, [start, end) in its samples, that are recognised as one, in order."""

    ranges: tuple[tuple[int, int], ...]
    sample_rate: int

    @property
    def start(self) -> float:
        """Where the window begins, in seconds of the recording."""
        return self.ranges[0][0] / self.sample_rate

    @property
    def end(self) -> float:
        """Where it ends, in seconds of the recording."""
        return self.ranges[-1][1] / self.sample_rate

    @property
    def seconds(self) -> float:
        """How much audio it has."""
        return sum(end - start for start, end in self.ranges) / self.sample_rate

    def time_in_recording(self, seconds: float) -> float:
        """The moment in the recording, in seconds, of a moment in the window."""
        offset = seconds * self.sample_rate
        for start, end in self.ranges:
            if offset <= end - start:
                return (start + max(0.0, offset)) / self.sample_rate
            offset -= end - start
        return self.end


def cut(audio: Audio, longest: float) -> list[Window]:
    """Cut a recording into windows of at most `longest` seconds; one that is no longer is one window.

    Reads every sample: call it in a thread. A recording without any sound is its first window.
    """
    if audio.seconds <= longest:
        return [Window(((0, audio.frames),), audio.sample_rate)]
    found = levels(audio)
    kept = np.flatnonzero(_with_surroundings(is_sound(found)))
    size = frame_size(audio)
    # One less: the last frame has the samples after it, too.
    most = int(longest * audio.sample_rate / size) - 1
    if not len(kept):
        kept = np.arange(most)
    ends = _ends(found[kept], most)
    return [
        Window(_ranges(frames, size, len(found), audio.frames), audio.sample_rate)
        for frames in np.split(kept, ends)
    ]


def _with_surroundings(sound: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The frames of sound and those within `_SURROUNDINGS` of them."""
    reach = round(_SURROUNDINGS / FRAME_SECONDS)
    near = np.convolve(sound, np.ones(2 * reach + 1), mode="full")[reach : reach + len(sound)]
    return np.asarray(near > 0.5)


def _ends(levels: NDArray[np.float32], most: int) -> list[int]:
    """Where to cut frames of these `levels`, so that at most `most` are together."""
    filled = int(most * _FILLED)
    searched = int(filled * _SEARCHED)
    power = np.concatenate(([0.0], np.cumsum(np.power(10.0, levels.astype(np.float64) / 10))))
    ends: list[int] = []
    start = 0
    while len(levels) - start > most:
        first = start + filled - searched
        places = np.arange(first, start + filled - _PAUSE_FRAMES)
        start = int(places[np.argmin(power[places + _PAUSE_FRAMES] - power[places])]) + _PAUSE_FRAMES // 2
        ends.append(start)
    return ends


def _ranges(frames: NDArray[np.int_], size: int, count: int, samples: int) -> tuple[tuple[int, int], ...]:
    """Neighbouring frames as ranges of samples. The last of `count` frames has the samples after it, too."""
    gaps = np.flatnonzero(np.diff(frames) > 1) + 1
    return tuple(
        (int(run[0]) * size, samples if run[-1] == count - 1 else (int(run[-1]) + 1) * size)
        for run in np.split(frames, gaps)
    )
