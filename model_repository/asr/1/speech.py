"""Where somebody speaks, by the Silero VAD that comes with faster-whisper."""

from __future__ import annotations

import numpy as np
from faster_whisper.vad import VadOptions, get_speech_timestamps
from windows import UNBROKEN_SPEECH_S

_OPTIONS = VadOptions(max_speech_duration_s=UNBROKEN_SPEECH_S, min_silence_duration_ms=160, speech_pad_ms=100)


def find_speech(audio: np.ndarray) -> list[tuple[int, int]]:
    """Stretches of speech in mono 16 kHz `audio`, as (start, end) in samples, in order."""
    return [(stretch["start"], stretch["end"]) for stretch in get_speech_timestamps(audio, _OPTIONS)]
