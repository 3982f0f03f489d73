"""Audio in the text form that a unit takes."""

import base64
from typing import Final

import numpy as np

from inference_service.audio import Audio, wav

#: Hz, mono, 16 bits: what every unit reads, whatever the client sent.
SAMPLE_RATE: Final = 16_000


def audio_payload(audio: Audio) -> str:
    """`audio_format=wav,sample_rate=16000,data=<base64>` of the audio as a 16 kHz mono 16-bit WAV file.

    Takes milliseconds per minute of audio, and more if it resamples, so it does not belong in the event loop.
    """
    waveform = audio.waveform(SAMPLE_RATE)
    samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype("<i2").tobytes()
    file = wav.header(wav.PCM, 1, SAMPLE_RATE, 2, len(samples)) + samples
    return f"audio_format=wav,sample_rate={SAMPLE_RATE},data={base64.b64encode(file).decode('ascii')}"
