"""Emotion from the sound of speech: a rule over prosody that does not depend on loudness, not a trained
model.

Studies of emotional speech agree on directions, not on numbers. Anger, joy, fear and surprise have higher and
livelier pitch, more energy in the upper bands and faster speech; sadness has the opposite. The rule below
scores the labels by four such measures and their mean, the arousal. These measures hardly show valence (anger
and joy sound alike), so the scores stay close.
"""

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16000
_FRAME = 640  # 40 ms
_HOP = 320  # 20 ms
_MIN_PITCH, _MAX_PITCH = 70, 400  # Hz
_VOICING = 0.5  # peak of the normalised autocorrelation
_MIN_VOICED_FRAMES = 15  # 0.3 s
_SILENCE = 1e-4  # peak, full scale 1: below 16 bit recordings' own noise
_BLOCK = 1500  # frames at once (30 s): bounds the memory

# Mean and spread of each measure in neutral speech: 758 prompts read by six speakers (those of the synthesis
# model's corpus), the spread within and between speakers, widened by a third for unscripted speech.
_TYPICAL = {"movement": (3.3, 1.0), "tilt": (-12.7, 3.6), "pace": (4.7, 1.4), "swing": (8.5, 1.7)}
# Speech has syllables, a hum has none.
_MIN_PACE = 0.5  # a second


@dataclass(frozen=True)
class Prosody:
    """`movement`: spread of the pitch in semitones; `tilt`: energy above 1 kHz over the whole, dB, in voiced
    frames; `pace`: loudness peaks (about syllables) a second of speech; `swing`: spread of loudness, dB."""

    movement: float
    tilt: float
    pace: float
    swing: float


def measure(audio: np.ndarray) -> Prosody | None:
    """Measures of mono `audio` at 16 kHz; None when there is too little voice in it."""
    if audio.size < _FRAME or np.abs(audio).max() < _SILENCE:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[::_HOP]
    energy, pitch, high = (
        np.concatenate(parts) for parts in zip(*map(_analyse, _blocks(frames)), strict=True)
    )
    decibels = 10 * np.log10(energy + 1e-12)
    speech = decibels > decibels.max() - 35
    voiced = speech & (pitch > 0)
    if voiced.sum() < _MIN_VOICED_FRAMES:
        return None
    semitones = 12 * np.log2(pitch[voiced])
    inner = semitones[np.abs(semitones - np.median(semitones)) < 9]  # octave errors are not intonation
    pace = _peaks(decibels, speech) / float(speech.sum() * _HOP / SAMPLE_RATE)
    if pace < _MIN_PACE:
        return None
    return Prosody(
        movement=float(inner.std()),
        tilt=float(10 * np.log10(high[voiced].sum() / energy[voiced].sum() + 1e-6)),
        pace=pace,
        swing=float(decibels[speech].std()),
    )


def logits(prosody: Prosody | None) -> np.ndarray:
    """Scores [6] in the order of labels.json: neutral, happy, sad, angry, fearful, surprised.

    Without voice neutral is the likeliest, at 0.31, because nothing speaks for another label.
    """
    if prosody is None:
        return np.array([0.8, 0, 0, 0, 0, 0], np.float32)
    movement, tilt, pace, swing = (
        float(np.clip((getattr(prosody, name) - mean) / spread, -2.5, 2.5))
        for name, (mean, spread) in _TYPICAL.items()
    )
    arousal = (movement + tilt + pace) / 3
    return np.array(
        [
            1.5 - 0.5 * abs(arousal) - 0.3 * abs(movement),
            0.7 * arousal + 0.4 * movement,
            -0.9 * arousal - 0.3 * pace,
            0.8 * arousal + 0.4 * tilt + 0.2 * swing,
            0.5 * arousal + 0.5 * pace - 0.2 * movement - 0.3 * swing,
            0.4 * arousal + 0.7 * movement - 0.3 * pace,
        ],
        np.float32,
    )


def _blocks(frames: np.ndarray):
    for start in range(0, len(frames), _BLOCK):
        yield frames[start : start + _BLOCK]


def _analyse(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Energy, pitch in Hz (0: unvoiced) and energy above 1 kHz of frames [n, 640]."""
    frames = (frames - frames.mean(axis=1, keepdims=True)) * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, 2 * _FRAME, axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)[:, :_FRAME]
    # The window reduces the correlation at long lags: divide by the window's own correlation.
    fade = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_FRAME), 2 * _FRAME)) ** 2)[:_FRAME]
    first, last = SAMPLE_RATE // _MAX_PITCH, SAMPLE_RATE // _MIN_PITCH
    normalised = (
        correlation[:, first : last + 1] / (correlation[:, :1] + 1e-12) / (fade[first : last + 1] / fade[0])
    )
    strength = normalised.max(axis=1)
    # The first lag that is nearly as good as the best: multiples of the period are as good, octaves too low.
    lag = first + (normalised >= 0.9 * strength[:, None]).argmax(axis=1)
    # From there to the top of its peak.
    steps = np.arange(8)
    near = np.minimum(lag[:, None] - first + steps, last - first)
    lag = lag + np.take_along_axis(normalised, near, axis=1).argmax(axis=1)
    energy = power.sum(axis=1)
    cut = round(1000 / (SAMPLE_RATE / (2 * _FRAME)))
    return energy, np.where(strength > _VOICING, SAMPLE_RATE / lag, 0.0), power[:, cut:].sum(axis=1)


def _peaks(decibels: np.ndarray, speech: np.ndarray) -> int:
    """Peaks of the smoothed loudness that stand 2 dB above the dips beside them: about one a syllable."""
    smooth = np.convolve(decibels, np.ones(3) / 3, mode="same")
    count, low, high, rising = 0, smooth[0], smooth[0], True
    for value, sounding in zip(smooth, speech, strict=True):
        if rising:
            high = max(high, value)
            if value < high - 2:
                count += bool(sounding)
                rising, low = False, value
        else:
            low = min(low, value)
            if value > low + 2:
                rising, high = True, value
    return count
