"""The bundled recording in every format that PyAV and libsndfile write, and how alike two waveforms are."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

RATE = 16000
#: Bits a second of encoders whose default is none of their own.
_BIT_RATES = {"wmav1": 64_000, "wmav2": 64_000, "g723_1": 6_300}

_FILE = Path(__file__).resolve().parents[2] / "recordings" / "inaugural-1961.flac"


@cache
def speech(start: float = 0.0, end: float = 11.0, rate: int = RATE) -> Waveform:
    """The recording from `start` to `end`, in seconds, at `rate` Hz: 11 s in all."""
    samples, recorded = soundfile.read(_FILE, dtype="float32")
    part = samples[round(start * recorded) : round(end * recorded)]
    return np.asarray(soxr.resample(part, recorded, rate), np.float32)


def written(
    container: str,
    codec: str,
    samples: Waveform | None = None,
    *,
    rate: int = RATE,
    tracks: int = 1,
    with_video: bool = False,
    options: dict[str, str] | None = None,
) -> bytes:
    """`samples` [frames] (the recording by default, at `rate` Hz) by FFmpeg's muxer and encoder of these
    names. Further tracks are silent."""
    samples = speech(rate=rate) if samples is None else samples
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as output:
        video = _video_stream(output) if with_video else None
        streams = [output.add_stream(codec, rate=rate) for _ in range(tracks)]
        for stream in streams:
            stream.layout = "mono"
            if codec in _BIT_RATES:
                stream.bit_rate = _BIT_RATES[codec]
        if video is not None:
            _encode_video(output, video)
        for stream, content in zip(streams, [samples, *[np.zeros_like(samples)] * (tracks - 1)], strict=True):
            _encode(output, stream, content, rate)
    return file.getvalue()


def by_libsndfile(
    format: str, subtype: str | None = None, samples: Waveform | None = None, rate: int = RATE
) -> bytes:
    """`samples` (the recording by default, at `rate` Hz) in a format that libsndfile writes."""
    file = io.BytesIO()
    content = speech(rate=rate) if samples is None else samples
    soundfile.write(file, content, rate, format=format, subtype=subtype)
    return file.getvalue()


def likeness(heard: Waveform, expected: Waveform) -> float:
    """The correlation of the two waveforms' levels in 20 ms frames, at the best shift of up to 0.2 s.

    Codecs change a waveform and delay it; what it says is in its levels. Unrelated speech is below 0.6.
    """
    first, second = _levels(heard), _levels(expected)
    scores = []
    for shift in range(-10, 11):
        a, b = first[max(0, shift) :], second[max(0, -shift) :]
        length = min(len(a), len(b))
        scores.append(float(np.corrcoef(a[:length], b[:length])[0, 1]))
    return max(scores)


def _levels(samples: Waveform) -> NDArray[np.float64]:
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    return np.asarray(np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-7))


def _encode(
    output: av.container.OutputContainer, stream: av.AudioStream, samples: Waveform, rate: int
) -> None:
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = rate
    frame.pts = 0
    # Encoders take their own sample type, and frames of their own size.
    if not stream.codec_context.is_open:
        stream.codec_context.open()
    resampler = av.AudioResampler(
        stream.codec_context.format,
        "mono",
        stream.codec_context.rate,
        stream.codec_context.frame_size or 1024,
    )
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(piece))
    output.mux(stream.encode(None))


def silent_film() -> bytes:
    """An MP4 with pictures and no audio."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        _encode_video(output, _video_stream(output))
    return file.getvalue()


def _video_stream(output: av.container.OutputContainer) -> av.VideoStream:
    stream = output.add_stream("mpeg4", rate=5)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    return stream


def _encode_video(output: av.container.OutputContainer, stream: av.VideoStream) -> None:
    for _ in range(10):
        output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
    output.mux(stream.encode(None))
