"""Decodes what has no header: PCM and the codings of telephony, and guesses which one it is."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from inference_service import audio_formats as formats
from inference_service.audio import isolated, wav
from inference_service.audio.jobs import Job
from inference_service.audio.limits import Limits, check_rate_and_channels
from inference_service.audio.mono import Block
from inference_service.errors import BadRequest

#: Layouts by format: format tag and bytes in a sample.
_LAYOUTS = {
    formats.PCM: (wav.PCM, 2),
    formats.SLN: (wav.PCM, 2),
    formats.MULAW: (wav.MULAW, 1),
    formats.BASIC: (wav.MULAW, 1),
    formats.ALAW: (wav.ALAW, 1),
}

#: Bytes in a frame, of codings that FFmpeg decodes.
_FRAME_BYTES = {formats.GSM: 33, formats.G722: 1, formats.G729: 10}

#: Bytes that a guess looks at, and the fewest that allow one.
_GUESSED_BYTES, _LEAST_GUESSED = 64 * 1024, 330

#: Neighbouring samples of speech at 8 kHz are alike (correlation), and those of a wrong decoding are not.
_LEAST_ALIKE = 0.5
#: Bytes of any kind that are decoded as G.722 give samples that are a little alike: 0.2 to 0.4, speech 0.9.
_LEAST_ALIKE_G722 = 0.75

#: GSM frames begin with these four bits.
_GSM_NIBBLE = 0xD


def layout(kind: formats.Headerless, sample_rate: int | None, channels: int | None) -> wav.Layout | None:
    """Return the layout of raw samples of this kind; None for codings in frames.

    Raises BadRequest for a rate (Hz) or a channel count that the coding does not have.
    """
    rate = kind.default_rate if sample_rate is None else sample_rate
    channels = 1 if channels is None else channels
    if kind.rates and rate not in kind.rates:
        allowed = " or ".join(str(each) for each in kind.rates)
        raise BadRequest(f"sample_rate: {rate} is not possible for {kind.label}; {allowed} is")
    if kind.mono and channels != 1:
        raise BadRequest(f"channels: {channels} is not possible for {kind.label}, which has one")
    check_rate_and_channels(rate, channels, where="")
    if kind not in _LAYOUTS:
        return None
    tag, width = _LAYOUTS[kind]
    return wav.Layout(tag, channels, rate, width, width * channels)


def blocks(
    data: memoryview,
    kind: formats.Headerless,
    sample_rate: int | None,
    channels: int | None,
    limits: Limits,
) -> Iterator[Block]:
    """Yield a recording of this kind in blocks of about a second.

    Raises BadRequest for audio that does not end with a whole frame, and what `limits` raises.
    """
    found = layout(kind, sample_rate, channels)
    if found is None:
        size = _FRAME_BYTES[kind]
        if len(data) % size:
            raise BadRequest(
                f"audio: {len(data)} bytes of {kind.label} are not a whole number of frames of {size} bytes"
            )
        job = Job("ffmpeg", kind.name, kind.label, limits.rate, limits.max_seconds)
        yield from isolated.blocks(data, job, limits.check, BadRequest(f"audio: {kind.label} cannot be read"))
        return
    check_whole_frames(data, kind, found)
    limits.check_length(len(data) // found.block / found.sample_rate)
    for block in wav.blocks(data, found):
        limits.check()
        yield block


def check_whole_frames(data: memoryview, kind: formats.Headerless, found: wav.Layout) -> None:
    """Raise BadRequest if raw samples end inside a frame."""
    if len(data) % found.block:
        coding = "PCM" if found.tag == wav.PCM else kind.label
        raise BadRequest(
            f"audio: {len(data)} bytes of {coding} are not a whole number of {found.block}-byte frames "
            f"({8 * found.width}-bit samples, channels: {found.channels})"
        )


def check_is_pcm(data: memoryview) -> None:
    """Raise BadRequest for what is taken for PCM because nobody said what it is, and is certainly GSM."""
    if len(data) >= _LEAST_GUESSED and _is_gsm(data[:_GUESSED_BYTES]):
        raise BadRequest(f"audio: {_send_as(formats.GSM)}; for PCM, name format=pcm")


def guess(data: memoryview) -> str | None:
    """Return what bytes without a header look like and how to send them, None where nothing is likely."""
    some = data[:_GUESSED_BYTES]
    if _is_text(bytes(some)):
        return "it looks like text, not audio; base64 goes into the JSON field audio_data"
    if len(some) < _LEAST_GUESSED:
        return None
    kind = _likeliest(some)
    return None if kind is None else _send_as(kind)


def _send_as(kind: formats.Headerless) -> str:
    as_type = f", or as {kind.media_types[0]}" if kind is not formats.PCM else ""
    rate = "" if kind.rates else " with its sample_rate"
    return f"it looks like {kind.label}: send it with format={kind.name}{rate}{as_type}"


def _likeliest(data: memoryview) -> formats.Headerless | None:
    if _is_gsm(data):
        return formats.GSM
    alike = {kind: _alike(_samples(data, kind)) for kind in (formats.PCM, formats.MULAW, formats.ALAW)}
    best = max(alike, key=alike.__getitem__)
    # Linear 8-bit samples resemble both laws, and are not read.
    linear = _alike(np.frombuffer(data, np.uint8).astype(np.float32))
    if alike[best] > max(_LEAST_ALIKE, linear):
        return best
    if max(alike[best], linear) < _LEAST_ALIKE and _alike(_samples(data, formats.G722)) > _LEAST_ALIKE_G722:
        return formats.G722
    return None


def _is_gsm(data: memoryview) -> bool:
    size = _FRAME_BYTES[formats.GSM]
    frames = np.frombuffer(data[: len(data) // size * size], np.uint8).reshape(-1, size)
    return bool((frames[:, 0] >> 4 == _GSM_NIBBLE).all())


def _samples(data: memoryview, kind: formats.Headerless) -> NDArray[np.float32]:
    whole = data[: len(data) // 2 * 2]
    decoded = blocks(whole, kind, None, None, Limits(max_seconds=len(data)))
    return np.concatenate([samples[:, 0] for samples, _ in decoded]).astype(np.float32)


def _alike(samples: NDArray[np.float32]) -> float:
    """The correlation of neighbouring samples; 0 for silence."""
    centred = samples - samples.mean()
    energy = float(np.dot(centred, centred))
    return float(np.dot(centred[:-1], centred[1:])) / energy if energy > 0 else 0.0


def _is_text(data: bytes) -> bool:
    return bool(data) and all(byte in _PRINTABLE for byte in data[:4096])


_PRINTABLE = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))
