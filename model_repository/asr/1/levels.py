"""Quiet speech beside loud speech: the far party of a call, who may be 26 dB and more below the near one.

The VAD misses such speech, and Whisper passes over it. So the VAD hears everything at one level, and Whisper
hears the speech that was found with its quiet stretches raised. Where all speech has about one level, Whisper
hears the audio as it is: another level changes its features, and with them the language that it detects.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from windows import SAMPLE_RATE

# 50 dB: the VAD misses speech that is very quiet.
MAX_GAIN = 316.0
# 40 dB, between the loudest and the quietest: what is below is not a party of the call.
MAX_LIFT = 100.0

# Speech whose level is this far below the loudest (15 dB) is raised to that. Voices differ by less.
_LEFT_BELOW = 10 ** (-15 / 20)

_FRAME = int(0.03 * SAMPLE_RATE)
# Frames to either side over which the loudest counts (1 s): the pauses between words have the words' level.
_AROUND = 33


def at_one_level(audio: np.ndarray) -> np.ndarray:
    """Each second of `audio` scaled to a peak near full scale, by at most `MAX_GAIN`, and by at most
    `MAX_LIFT` more than the loudest: what the VAD hears."""
    peak = float(np.abs(audio).max())
    if peak <= 0:
        return audio
    local = np.maximum(_loudest_around(audio), peak / MAX_LIFT)
    gains = np.minimum(MAX_GAIN, 0.9 / local)
    return audio * _by_sample(gains, audio.size)


def with_quiet_speech_raised(audio: np.ndarray, speech: Sequence[tuple[int, int]]) -> np.ndarray:
    """`audio` with stretches of `speech`, (start, end) in samples, raised that are far below the loudest one.
    The gain moves between two stretches in the pause between them."""
    if len(speech) < 2:
        return audio
    levels = np.array([float(np.sqrt(np.mean(np.square(audio[start:end])))) for start, end in speech])
    wanted = levels.max() * _LEFT_BELOW
    lifts = np.clip(wanted / np.maximum(levels, 1e-9), 1.0, MAX_LIFT)
    if lifts.max() <= 1.0:
        return audio
    edges = np.array([edge for start, end in speech for edge in (start, end)])
    decibels = np.repeat(np.log10(lifts), 2)
    gains = np.power(10.0, np.interp(np.arange(0, audio.size, _FRAME), edges, decibels))
    return np.clip(audio * _by_sample(gains, audio.size), -1.0, 1.0)


def _loudest_around(audio: np.ndarray) -> np.ndarray:
    """The peak of the frames around each frame."""
    whole = -(-audio.size // _FRAME)
    padded = np.zeros(whole * _FRAME, np.float32)
    padded[: audio.size] = np.abs(audio)
    peaks = np.pad(padded.reshape(-1, _FRAME).max(axis=1), _AROUND, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(peaks, 2 * _AROUND + 1).max(axis=1)


def _by_sample(gains: np.ndarray, size: int) -> np.ndarray:
    """Gains of frames as gains of `size` samples, without steps."""
    middles = np.arange(len(gains)) * _FRAME + _FRAME / 2
    return np.interp(np.arange(size), middles, gains).astype(np.float32)
