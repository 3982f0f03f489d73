"""Audio for requests. It is generated, so that every run sends the same."""

from __future__ import annotations

import io
import wave

import numpy as np

RATE = 16000


def tone(seconds: float = 1.0) -> bytes:
    """A WAV file of a tone with some noise: 16 kHz, mono, 16 bit."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).normal(0, 0.05, time.size)
    samples = (0.4 * np.sin(2 * np.pi * 220 * time) + noise).clip(-1, 1)
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(RATE)
        wav.writeframes((samples * 32767).astype("<i2").tobytes())
    return file.getvalue()
