"""Moves the times of words onto the sound.

Recognisers report when a word is decoded, so a word after a pause starts with the pause, and subtitles would
appear seconds early. Recognisers also skip whole sentences now and then, which leaves sound without a word.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from inference_service.tasks import Segment, Word

_FRAME_SECONDS = 0.01

#: A frame is sound if its level in decibels is above this fraction of the range from the recording's quiet
#: frames to its loud ones.
_SOUND_LEVEL = 0.35

#: Decibels between them below which pauses cannot be distinguished from speech.
_LEAST_CONTRAST = 10.0

#: The longest silence inside a word in seconds (a stop consonant has a tenth). After a longer one the sound
#: belongs to another word.
_LONGEST_GAP = 0.25

#: Seconds left before and after the sound: soft consonants are below the level.
_MARGIN = 0.06

#: In the search for sound without a word: the seconds around a word that may also be its sound, and the
#: longest word, because recognisers give skipped sound to the neighbouring words.
_REACH = 0.1
_LONGEST_WORD = 2.0


def on_the_sound(segments: Sequence[Segment], waveform: NDArray[np.float32], rate: int) -> list[Segment]:
    """The segments, with the time of each word reduced to the sound in it, and `in_order`. A word without
    sound keeps its time.

    `waveform` is the transcribed audio, mono [frames] at `rate` Hz.
    """
    sound = _sound(waveform, rate)
    return in_order(
        [_with_words(segment, [_cut(word, sound) for word in segment.words or ()]) for segment in segments]
    )


def in_order(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, and the words in them, each beginning where the one before ends or later.

    Where two overlap, the first one ends with the beginning of the second. Recognisers of other people, and
    windows whose words meet at a border, give such times; players show such cues on top of each other.
    """
    timed: list[Word | Segment] = []
    for segment in segments:
        timed += segment.words or [segment]
    times = iter(_ordered([(each.start, each.end) for each in timed]))
    ordered = []
    for segment in segments:
        if segment.words:
            words = [
                msgspec.structs.replace(word, start=start, end=end)
                for word, (start, end) in zip(segment.words, times, strict=False)
            ]
            ordered.append(_with_words(segment, words))
        else:
            start, end = next(times)
            ordered.append(msgspec.structs.replace(segment, start=start, end=end))
    return ordered


def passed_over(
    segments: Sequence[Segment], waveform: NDArray[np.float32], rate: int, start: float, end: float
) -> float:
    """Seconds of sound between `start` and `end` (seconds of `waveform`) without a word.

    `segments` have been moved `on_the_sound` of `waveform`, mono [frames] at `rate` Hz. 0 for a recording
    whose pauses cannot be distinguished from speech.
    """
    sound = _sound(waveform, rate)
    if sound.all():
        return 0.0
    for segment in segments:
        for word in segment.words or ():
            last = min(word.end, word.start + _LONGEST_WORD) + _REACH
            sound[max(0, int((word.start - _REACH) / _FRAME_SECONDS)) : int(last / _FRAME_SECONDS)] = False
    part = sound[round(start / _FRAME_SECONDS) : round(end / _FRAME_SECONDS)]
    return float(np.count_nonzero(part)) * _FRAME_SECONDS


def _ordered(times: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """These times, start and end, without overlap and in order."""
    starts: list[float] = []
    for start, _ in times:
        starts.append(max(start, starts[-1]) if starts else start)
    following = [*starts[1:], float("inf")]
    return [
        (start, min(max(end, start), next_start))
        for start, (_, end), next_start in zip(starts, times, following, strict=False)
    ]


def _with_words(segment: Segment, words: list[Word]) -> Segment:
    if not words:
        return segment
    return msgspec.structs.replace(segment, start=words[0].start, end=words[-1].end, words=words)


def _sound(waveform: NDArray[np.float32], rate: int) -> NDArray[np.bool_]:
    """Whether each frame of `_FRAME_SECONDS` is sound."""
    size = round(_FRAME_SECONDS * rate)
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    decibels = 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-10)
    if not len(decibels):
        return np.zeros(0, dtype=bool)
    quiet, loud = np.percentile(decibels, (10, 90))
    if loud - quiet < _LEAST_CONTRAST:
        return np.ones(len(decibels), dtype=bool)
    return np.asarray(decibels > quiet + _SOUND_LEVEL * (loud - quiet))


def _cut(word: Word, sound: NDArray[np.bool_]) -> Word:
    first = int(word.start / _FRAME_SECONDS)
    frames = np.flatnonzero(sound[first : int(np.ceil(word.end / _FRAME_SECONDS))]) + first
    if not len(frames):
        return word
    gaps = np.flatnonzero(np.diff(frames) * _FRAME_SECONDS > _LONGEST_GAP)
    longest = max(np.split(frames, gaps + 1), key=len)
    return msgspec.structs.replace(
        word,
        start=max(word.start, float(longest[0]) * _FRAME_SECONDS - _MARGIN),
        end=min(word.end, float(longest[-1] + 1) * _FRAME_SECONDS + _MARGIN),
    )
