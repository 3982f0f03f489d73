"""WAV headers: reads those that libsndfile refuses or misreads, and writes them.

Recorders and pipes leave open-ended sizes and an incomplete last frame, and a stream's header arrives before
its samples. libsndfile converts the samples, except those that numpy can use in place.
"""

import io
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from inference_service.audio.limits import check_rate_and_channels
from inference_service.errors import BadRequest

Buffer = bytes | bytearray | memoryview

#: Format tags: integer and floating-point samples.
PCM, FLOAT = 1, 3
_EXTENSIBLE = 0xFFFE

#: libsndfile's names of the sample types that are read here, by format tag and bytes in a sample.
_SUBTYPES = {
    (PCM, 1): "PCM_U8",
    (PCM, 2): "PCM_16",
    (PCM, 3): "PCM_24",
    (PCM, 4): "PCM_32",
    (FLOAT, 4): "FLOAT",
    (FLOAT, 8): "DOUBLE",
    (6, 1): "ALAW",
    (7, 1): "ULAW",
}

#: Sample types that need no conversion: the samples stay a view of the request's bytes.
_VIEWS = {"PCM_16": "<i2", "PCM_32": "<i4", "FLOAT": "<f4"}

#: The last 14 bytes of every extensible sub-format whose first two are an ordinary format tag.
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")

#: Writers that cannot seek back leave 0, 0xFFFFFFFF, or something just under 2 GiB as the size of the data.
_OPEN_ENDED_FROM = 0x7FFF0000

#: Chunks before the samples. Recorders write a few; a hundred megabytes of empty ones take seconds to skip.
_MAX_CHUNKS = 1000


@dataclass(frozen=True, slots=True)
class Layout:
    """A WAV's sample type, and where its samples are. Layouts of one sample type are equal."""

    tag: int  # the format tag, with the extensible one resolved
    channels: int
    sample_rate: int  # Hz
    width: int  # bytes in a sample
    block: int  # bytes in a frame
    offset: int = field(default=0, compare=False)  # of the first sample, in bytes
    size: int = field(default=0, compare=False)  # bytes of samples, as declared

    @property
    def is_plain(self) -> bool:
        """Whether `samples` reads this sample type. It does not read compressed ones (ADPCM, GSM, …)."""
        return (self.tag, self.width) in _SUBTYPES

    @property
    def is_open_ended(self) -> bool:
        """Whether the writer did not know the size: the samples go on to the end of the file or stream."""
        return self.size == 0 or self.size >= _OPEN_ENDED_FROM


def is_wav(data: Buffer) -> bool:
    """Return whether the bytes start as a RIFF WAVE file."""
    return bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WAVE"


def is_16_bit(data: Buffer) -> bool:
    """Return whether a file that `is_wav` holds 16-bit PCM; False also for an invalid header."""
    try:
        layout = read_header(data)
    except BadRequest:
        return False
    return layout is not None and (layout.tag, layout.width) == (PCM, 2)


def read_header(data: Buffer) -> Layout | None:
    """Read the header of a file or stream that `is_wav`; None if `data` ends before the samples.

    Raises BadRequest with what is wrong with the header.
    """
    position, fmt = 12, None
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return None
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"data":
            if fmt is None:
                raise BadRequest("audio: WAV has its data chunk before its fmt chunk")
            return _layout(fmt, position, size)
        if name == b"fmt ":
            fmt = bytes(data[position : position + size])
        position += size + (size & 1)  # chunks are padded to an even length
    raise BadRequest(f"audio: WAV header has more than {_MAX_CHUNKS} chunks before its samples")


def sample_bytes(data: Buffer, layout: Layout) -> memoryview:
    """Return the samples of the file `data` in whole frames. Raises BadRequest if some are missing."""
    available = len(data) - layout.offset
    size = layout.size
    if size == 0 or (layout.is_open_ended and size > available):
        size = available
    # Up to one frame may be missing at the end: writers that stop in the middle of one are common.
    if size - available >= layout.block:
        raise BadRequest(f"audio: WAV is truncated: {size} bytes of samples declared, {available} are there")
    size = min(size, available) // layout.block * layout.block
    return memoryview(data)[layout.offset : layout.offset + size]


def samples(data: Buffer, layout: Layout) -> NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]:
    """Return whole frames of a plain layout as [frames] or [frames, channels], without a copy if possible."""
    subtype = _SUBTYPES[layout.tag, layout.width]
    if subtype in _VIEWS:
        flat: NDArray[Any] = np.frombuffer(data, _VIEWS[subtype])
        return flat.reshape(-1, layout.channels) if layout.channels > 1 else flat
    converted: NDArray[np.float32]
    converted, _ = soundfile.read(
        io.BytesIO(data),
        dtype="float32",
        samplerate=layout.sample_rate,
        channels=layout.channels,
        format="RAW",
        subtype=subtype,
        endian="LITTLE",
    )
    return converted


def header(tag: int, channels: int, sample_rate: int, width: int, size: int) -> bytes:
    """Return the 44 bytes before `size` bytes of samples, each of `width` bytes, at `sample_rate` Hz."""
    block = channels * width
    fmt = struct.pack("<HHIIHH", tag, channels, sample_rate, sample_rate * block, block, 8 * width)
    return (
        struct.pack("<4sI8sI", b"RIFF", 36 + size, b"WAVEfmt ", 16) + fmt + struct.pack("<4sI", b"data", size)
    )


def _layout(fmt: bytes, offset: int, size: int) -> Layout:
    if len(fmt) < 16:
        raise BadRequest(f"audio: WAV fmt chunk has {len(fmt)} bytes; it needs at least 16")
    tag, channels, sample_rate, _, block, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE:
        if len(fmt) < 40 or fmt[26:40] != _SUBFORMAT_TAIL:
            raise BadRequest("audio: WAV extensible format without a known sub-format")
        tag = int.from_bytes(fmt[24:26], "little")
    check_rate_and_channels(sample_rate, channels, where="audio: WAV header: ")
    width = (bits + 7) // 8
    widths = [width for known, width in _SUBTYPES if known == tag]
    if widths and width not in widths:
        allowed = ", ".join(str(8 * width) for width in widths)
        kind = _SUBTYPES[tag, widths[0]].partition("_")[0]
        raise BadRequest(f"audio: WAV with {bits}-bit {kind} samples; allowed are {allowed} bits")
    if widths and block != width * channels:
        raise BadRequest(
            f"audio: WAV header contradicts itself: {channels} channel(s) of {bits} bits "
            f"make frames of {width * channels} bytes, it declares {block}"
        )
    return Layout(tag, channels, sample_rate, width, max(block, 1), offset, size)
