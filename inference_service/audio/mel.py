"""Whisper's log-mel spectrogram, in numpy.

The filterbank is computed from its definition: triangles between points equally spaced on Slaney's mel scale,
each of unit area. Agrees with the feature extractors of the published Whisper packages to float32 accuracy.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz
#: The bands of Whisper's spectrograms: 80, and 128 from large-v3 on.
MEL_BANDS = 80
BANDS = (80, 128)
N_FFT = 400
HOP = 160  # samples between frames: 10 ms

#: The window that Whisper's encoder takes.
WINDOW_SECONDS = 30
WINDOW_SAMPLES = WINDOW_SECONDS * SAMPLE_RATE
WINDOW_FRAMES = WINDOW_SAMPLES // HOP

#: Frames transformed at once: bounds the memory for long audio (40 MB at a time).
_BLOCK_FRAMES = 8192


def log_mel(waveform: NDArray[np.float32], bands: int = MEL_BANDS) -> NDArray[np.float32]:
    """Log-mel spectrogram [bands, frames] of a mono waveform in [-1, 1] at 16 kHz, a frame every 160 samples.

    The last, incomplete hop has no frame of its own; a waveform shorter than 400 samples is padded with
    silence. Values are clamped to 8 decades (80 dB) below the loudest and scaled as Whisper's training did.
    """
    if len(waveform) < N_FFT:
        waveform = np.pad(waveform, (0, N_FFT - len(waveform)))
    frames = len(waveform) // HOP
    padded = np.pad(np.asarray(waveform, dtype=np.float32), N_FFT // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, N_FFT)[::HOP][:frames]
    filters, hann = _mel_filters(bands), _hann()
    mel = np.empty((bands, frames), dtype=np.float32)
    for start in range(0, frames, _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        spectrum = np.fft.rfft(windows[block] * hann, axis=1)
        power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32, copy=False)
        mel[:, block] = filters @ power.T
    log = np.log10(np.maximum(mel, np.float32(1e-10)))
    clamped = np.maximum(log, log.max() - np.float32(8.0))
    return (clamped + np.float32(4.0)) / np.float32(4.0)


def window_log_mel(waveform: NDArray[np.float32], bands: int = MEL_BANDS) -> NDArray[np.float32]:
    """Log-mel spectrogram [bands, 3000] of at most 30 s of a waveform, padded with silence to the window."""
    if len(waveform) > WINDOW_SAMPLES:
        raise ValueError(f"{len(waveform)} samples do not fit Whisper's window of {WINDOW_SAMPLES}")
    return log_mel(np.pad(waveform, (0, WINDOW_SAMPLES - len(waveform))), bands)


@cache
def _hann() -> NDArray[np.float32]:
    """The periodic Hann window of `N_FFT` samples."""
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


@cache
def _mel_filters(bands: int) -> NDArray[np.float32]:
    """Filterbank [bands, 201] from 0 Hz to half the sample rate."""
    bins = np.fft.rfftfreq(N_FFT, 1.0 / SAMPLE_RATE)
    edges = _mel_to_hz(np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), bands + 2))
    rising = (bins[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


# Slaney's scale: linear (200/3 Hz a mel) up to 1 kHz, logarithmic above (27 mels for a factor of 6.4).
_LINEAR_HZ, _BREAK_HZ, _LOG_STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0


def _hz_to_mel(hz: float) -> float:
    return (
        float(_BREAK_HZ / _LINEAR_HZ + np.log(hz / _BREAK_HZ) / _LOG_STEP)
        if hz >= _BREAK_HZ
        else hz / _LINEAR_HZ
    )


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(
        mel < _BREAK_HZ / _LINEAR_HZ,
        mel * _LINEAR_HZ,
        _BREAK_HZ * np.exp(_LOG_STEP * (mel - _BREAK_HZ / _LINEAR_HZ)),
    )
