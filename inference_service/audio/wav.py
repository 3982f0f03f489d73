"""WAV: the header by hand, so that 16-bit samples stay a view of the request's bytes.

Accepts what recorders and pipes really write: streaming sizes, extra chunks, an incomplete last frame,
WAVE_FORMAT_EXTENSIBLE.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from inference_service.audio.limits import check_rate_and_channels
from inference_service.errors import BadRequest

Buffer = bytes | bytearray | memoryview

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE

#: Which sample widths, in bytes, each format tag read here comes in.
_WIDTHS = {_PCM: (1, 2, 3, 4), _FLOAT: (4, 8), _ALAW: (1,), _MULAW: (1,)}

_KIND = {_PCM: "PCM", _FLOAT: "float", _ALAW: "A-law", _MULAW: "mu-law"}

#: The last 14 bytes of every extensible sub-format whose first two are an ordinary format tag.
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")

#: Writers that cannot seek back leave 0, 0xFFFFFFFF, or something just under 2 GiB as the size of the data.
_STREAMING_SIZE = 0x7FFF0000


#: Chunks before the samples. Recorders write a few; a hundred megabytes of empty ones take seconds to pass.
_MOST_CHUNKS = 1000


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a WAV file's samples are and what they look like. `frames` counts complete ones."""

    tag: int  # the format tag, with the extensible one resolved
    channels: int
    sample_rate: int  # Hz
    width: int  # bytes in a sample
    offset: int  # of the first sample, in bytes
    frames: int

    @property
    def is_plain(self) -> bool:
        """Whether `samples` reads this format tag; others (ADPCM, GSM, …) are libsndfile's."""
        return self.tag in _WIDTHS


def is_wav(data: Buffer) -> bool:
    """Whether the bytes start as a RIFF WAVE file."""
    return bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WAVE"


def is_16_bit(data: Buffer) -> bool:
    """Whether a file that `is_wav` holds 16-bit PCM; False also for a header that cannot be read."""
    try:
        layout = parse(data)
    except BadRequest:
        return False
    return layout.tag == _PCM and layout.width == 2


def parse(data: Buffer) -> Layout:
    """Find the samples of a file that `is_wav`. Raises BadRequest that says what is wrong with the header."""
    position, fmt = 12, None
    for _ in range(_MOST_CHUNKS):
        if position + 8 > len(data):
            break
        name, size = struct.unpack_from("<4sI", data, position)
        start = position + 8
        if name == b"data":
            if fmt is None:
                raise BadRequest("audio: WAV has its data chunk before its fmt chunk")
            return _layout(fmt, start, size, len(data) - start)
        if start + size > len(data):
            raise BadRequest(
                f"audio: WAV is truncated: chunk {_printable(name)} declares {size} bytes, "
                f"{len(data) - start} are there"
            )
        if name == b"fmt ":
            fmt = bytes(data[start : start + size])
        position = start + size + (size & 1)  # chunks are padded to an even length
    else:
        raise BadRequest(f"audio: WAV header has more than {_MOST_CHUNKS} chunks before its samples")
    missing = "fmt chunk" if fmt is None else "data chunk"
    raise BadRequest(f"audio: WAV header is cut short: no {missing} in {len(data)} bytes")


def samples(data: Buffer, layout: Layout) -> NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]:
    """The samples of a plain layout, [frames] or [frames, channels]; 16-bit, 32-bit and float32 as views."""
    count = layout.frames * layout.channels
    match layout.tag, layout.width:
        case (1, 2):
            flat = np.frombuffer(data, "<i2", count, layout.offset)
        case (1, 4):
            flat = np.frombuffer(data, "<i4", count, layout.offset)
        case (1, 1):
            unsigned = np.frombuffer(data, np.uint8, count, layout.offset)
            flat = (unsigned.astype(np.int16) - 128) << 8
        case (1, 3):
            # The three bytes become the upper ones of 32 bits: full scale stays full scale.
            packed = np.frombuffer(data, np.uint8, count * 3, layout.offset).reshape(count, 3)
            widened = np.zeros((count, 4), dtype=np.uint8)
            widened[:, 1:] = packed
            flat = widened.view("<i4").reshape(count)
        case (3, 4):
            flat = np.frombuffer(data, "<f4", count, layout.offset)
        case (3, 8):
            wide = np.frombuffer(data, "<f8", count, layout.offset)
            # Beyond float32's range is beyond full scale; NaN and infinity stay, for the caller to refuse.
            with np.errstate(invalid="ignore"):
                flat = np.where(np.isfinite(wide), np.clip(wide, -1.0, 1.0), wide).astype(np.float32)
        case (6, 1):
            flat = _alaw_table()[np.frombuffer(data, np.uint8, count, layout.offset)]
        case (7, 1):
            flat = _mulaw_table()[np.frombuffer(data, np.uint8, count, layout.offset)]
        case _:
            raise ValueError(f"not a plain layout: {layout}")
    return flat.reshape(-1, layout.channels) if layout.channels > 1 else flat


def _layout(fmt: bytes, offset: int, size: int, there: int) -> Layout:
    if len(fmt) < 16:
        raise BadRequest(f"audio: WAV fmt chunk has {len(fmt)} bytes; 16 at least are needed")
    tag, channels, sample_rate, _, block, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE:
        if len(fmt) < 40 or fmt[26:40] != _SUBFORMAT_TAIL:
            raise BadRequest("audio: WAV extensible format without a known sub-format")
        tag = int.from_bytes(fmt[24:26], "little")
    check_rate_and_channels(sample_rate, channels, where="audio: WAV header: ")
    width = (bits + 7) // 8
    if tag in _WIDTHS:
        if width not in _WIDTHS[tag]:
            allowed = ", ".join(str(8 * w) for w in _WIDTHS[tag])
            raise BadRequest(f"audio: WAV with {bits}-bit {_KIND[tag]} samples; allowed are {allowed} bits")
        if block != width * channels:
            raise BadRequest(
                f"audio: WAV header contradicts itself: {channels} channel(s) of {bits} bits "
                f"make frames of {width * channels} bytes, it declares {block}"
            )
    if size == 0 or (size >= _STREAMING_SIZE and size > there):
        size = there
    # Up to one frame may be missing at the end: writers that stop in the middle of one are common.
    if size - there >= max(block, 1):
        raise BadRequest(f"audio: WAV is truncated: {size} bytes of samples declared, {there} are there")
    return Layout(tag, channels, sample_rate, width, offset, min(size, there) // max(block, 1))


def _printable(name: bytes) -> str:
    return ascii(name.decode("latin-1"))


@cache
def _mulaw_table() -> NDArray[np.int16]:
    """G.711 mu-law: every byte's 16-bit sample."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = ((((code & 0x0F) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


@cache
def _alaw_table() -> NDArray[np.int16]:
    """G.711 A-law: every byte's 16-bit sample."""
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (code >> 4) & 7, (code & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)
