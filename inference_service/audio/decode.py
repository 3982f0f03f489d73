"""Decodes a client's bytes to `Audio`: mono, at the rate of the speech models, block by block.

Only the waveform is held, not what the file decodes to. 16-bit WAV and PCM that are mono at that rate already
stay a view of the client's bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inference_service import audio_formats as formats
from inference_service.audio import headerless, isolated, joined, mono, wav
from inference_service.audio.boxes import check_boxes
from inference_service.audio.jobs import Job
from inference_service.audio.limits import Limits
from inference_service.audio.mono import Block, Waveform
from inference_service.audio.sniff import COMPRESSED_WAV, MP4, WAV, Content, sniff
from inference_service.audio.waveform import Audio
from inference_service.errors import BadRequest

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Recording:
    """What a client sent, and what it said of it.

    `format` is a name of `audio_formats`, None where the client named none. A header in `data` goes before
    it. `sample_rate` (Hz) and `channels` describe audio without a header, None: the format's default.
    """

    data: Buffer
    format: str | None = None
    sample_rate: int | None = None
    channels: int | None = None


def decode(recording: Recording, limits: Limits) -> Audio:
    """Decode a recording.

    The result may be a view of its data, which must not change while the result is in use. Raises BadRequest
    for an unknown format, for an invalid, damaged, truncated or empty file, for a rate or channel count out
    of bounds and for samples that are not finite; TooLarge for audio over `max_seconds`; and what `check` and
    `hold` raise.
    """
    audio = view(recording, limits)
    if audio is None:
        samples = mono.collected(waveforms(recording, limits), limits.hold)
        audio = Audio(samples, limits.rate)
    if not audio.frames:
        raise BadRequest("audio has no samples")
    return audio


def waveforms(recording: Recording, limits: Limits) -> Iterator[Waveform]:
    """Yield the recording as float32 mono in [-1, 1] at `limits.rate`, about a second at a time.

    Raises what `decode` raises, some of it only after the last block: that audio is missing at the end.
    """
    yield from mono.waveforms(_blocks(recording, limits), limits.rate, limits.check_so_far)


def view(recording: Recording, limits: Limits) -> Audio | None:
    """Return the recording as a view of its data, None if it must be decoded. Takes microseconds.

    Raises what `decode` raises for WAV and PCM.
    """
    data = memoryview(recording.data)
    kind = _named(recording.format)
    _check_not_empty(data)
    if wav.is_wav(data):
        layout = wav.read_header(data)
        if layout is None or not _is_viewed(layout, limits):
            return None
        first, *others = wav.parts(data)
        samples = first.samples
        if others:
            return None
    elif isinstance(kind, formats.Headerless) and sniff(data) is None:
        found = headerless.layout(kind, recording.sample_rate, recording.channels)
        if found is None or not _is_viewed(found, limits):
            return None
        headerless.check_whole_frames(data, kind, found)
        layout, samples = found, data
    else:
        return None
    limits.check_length(len(samples) / layout.block / layout.sample_rate)
    return Audio(np.frombuffer(samples, "<i2"), layout.sample_rate)


def _is_viewed(layout: wav.Layout, limits: Limits) -> bool:
    return (layout.tag, layout.width, layout.channels) == (
        wav.PCM,
        2,
        1,
    ) and layout.sample_rate == limits.rate


def _blocks(recording: Recording, limits: Limits) -> Iterator[Block]:
    """Yield what the recording decodes to, with the decoder that its content or its name asks for."""
    data = memoryview(recording.data)
    kind = _named(recording.format)
    _check_not_empty(data)
    content = sniff(data)
    if content is not None:
        if content.reader == "none":
            raise BadRequest(f"audio: this is {content.label}, which is not read here; {_ALLOWED}")
        for part in joined.parts(data, content):
            yield from _of_content(part, content, limits)
    elif isinstance(kind, formats.Headerless):
        yield from headerless.blocks(data, kind, recording.sample_rate, recording.channels, limits)
    else:
        yield from _of_unknown(data, kind, limits)


def _of_content(data: memoryview, content: Content, limits: Limits) -> Iterator[Block]:
    if content is WAV:
        yield from _of_wav(data, limits)
        return
    if content is MP4:
        check_boxes(data)
    reader: Literal["libsndfile", "ffmpeg"] = "libsndfile" if content.reader == "libsndfile" else "ffmpeg"
    job = Job(reader, content.demuxer, content.label, limits.rate, limits.max_seconds)
    refusal = BadRequest(f"audio: {content.label} cannot be read")
    yield from isolated.blocks(data, job, limits.check, refusal)


def _of_wav(data: memoryview, limits: Limits) -> Iterator[Block]:
    parts = list(wav.parts(data))
    if all(part.layout.is_plain for part in parts):
        frames = ((len(part.samples) // part.layout.block) / part.layout.sample_rate for part in parts)
        limits.check_length(sum(frames))
    for part in parts:
        if part.layout.is_plain:
            for block in wav.blocks(part.samples, part.layout):
                limits.check()
                yield block
        else:
            yield from _of_content(part.file, COMPRESSED_WAV, limits)


def _of_unknown(data: memoryview, kind: formats.AudioFormat | None, limits: Limits) -> Iterator[Block]:
    """Yield a recording whose beginning tells nothing, where libsndfile or FFmpeg recognises it."""
    guess = headerless.guess(data)
    refusal = _not_recognised(data, kind, guess)
    if guess is not None:
        raise refusal
    job = Job("unknown", None, "this recording", limits.rate, limits.max_seconds)
    yield from isolated.blocks(data, job, limits.check, refusal)


def _not_recognised(data: memoryview, kind: formats.AudioFormat | None, guess: str | None) -> BadRequest:
    begins = f"its {len(data)} bytes do not begin" if len(data) < 100 else "it does not begin"
    if kind is not None:
        reason = f"it was sent as {kind.name}, but {begins} as {kind.label} does, nor as another format"
    else:
        reason = f"its format is not recognised: {begins} with a header that is known"
    return BadRequest(f"audio: {reason}; {guess or _ALLOWED}")


#: What to do with a recording that is not read.
_ALLOWED = (
    f"send {', '.join(each.name for each in formats.WITH_HEADER)}; or audio without a header and its format: "
    f"{', '.join(each.name for each in formats.HEADERLESS)}"
)


def _named(name: str | None) -> formats.AudioFormat | None:
    if name is None or not name.strip():
        return None
    kind = formats.named(name)
    if kind is None:
        raise BadRequest(f'format: "{name[:40]}" is not known; allowed are {formats.names()}')
    return kind


def _check_not_empty(data: memoryview) -> None:
    if not len(data):
        raise BadRequest("audio is empty: 0 bytes")
