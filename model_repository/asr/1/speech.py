"""Where somebody speaks, by the Silero VAD that comes with faster-whisper."""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from windows import UNBROKEN_SPEECH_S

# 50 dB.
MAX_GAIN = 316.0

_OPTIONS = VadOptions(max_speech_duration_s=UNBROKEN_SPEECH_S, min_silence_duration_ms=160, speech_pad_ms=100)


def at_speaking_level(audio: np.ndarray) -> np.ndarray:
    """Scaled to a peak near full scale, by at most `MAX_GAIN`: the VAD misses speech that is very quiet."""
    peak = float(np.abs(audio).max())
    return audio * np.float32(min(MAX_GAIN, 0.9 / peak)) if peak > 0 else audio


def find_speech(audio: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of speech in mono 16 kHz `audio`, as (start, end) in samples, in order."""
    return [(stretch["start"], stretch["end"]) for stretch in get_speech_timestamps(audio, _OPTIONS)]
