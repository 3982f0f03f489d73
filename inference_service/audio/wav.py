"""WAV headers: reads those that libsndfile refuses or misreads, and writes them.

Recorders and pipes leave open-ended sizes and an incomplete last frame, a stream's header arrives before its
samples, and some files are several WAVs in a row. libsndfile converts the samples, except those that numpy
can use in place.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from inference_service.audio.limits import check_rate_and_channels
from inference_service.errors import BadRequest

Buffer = bytes | bytearray | memoryview

#: Format tags: integer and floating-point samples, and the two companded codings of telephony.
PCM, FLOAT, ALAW, MULAW = 1, 3, 6, 7
_EXTENSIBLE = 0xFFFE

#: libsndfile's names of the sample types that are read here, by format tag and bytes in a sample.
_SUBTYPES = {
    (PCM, 1): "PCM_U8",
    (PCM, 2): "PCM_16",
    (PCM, 3): "PCM_24",
    (PCM, 4): "PCM_32",
    (FLOAT, 4): "FLOAT",
    (FLOAT, 8): "DOUBLE",
    (ALAW, 1): "ALAW",
    (MULAW, 1): "ULAW",
}

#: Sample types that need no conversion: the samples stay a view of the request's bytes.
_VIEWS = {"PCM_16": "<i2", "PCM_32": "<i4", "FLOAT": "<f4"}

#: The last 14 bytes of every extensible sub-format whose first two are an ordinary format tag.
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")

#: Writers that cannot seek back leave 0, 0xFFFFFFFF, or something just under 2 GiB as the size of the data.
_OPEN_ENDED_FROM = 0x7FFF0000

#: Tags that are appended to files of any kind, with bytes that are no RIFF chunk.
_TAGS = (b"TAG", b"ID3", b"APE", b"LYR")

#: Seconds of what follows the samples that are not worth an error: a writer's rounding.
_LEAST_SAMPLES_SECONDS = 0.1

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


@dataclass(frozen=True, slots=True)
class Part:
    """One WAV of a file: all of its bytes, and its samples in whole frames."""

    layout: Layout
    file: memoryview
    samples: memoryview


def parts(data: memoryview) -> Iterator[Part]:
    """Yield the WAVs of a file that `is_wav`: mostly one, else several that were joined end to end.

    Raises BadRequest if samples are missing, and if there are samples that no header declares.
    """
    start = 0
    while start < len(data):
        layout = read_header(data[start:])
        if layout is None:
            raise BadRequest(f"audio: WAV is truncated: its {len(data) - start} bytes end before the samples")
        first = start + layout.offset
        size = _present(layout, len(data) - first)
        end = _next_wav(data, layout, first + size)
        whole = size // layout.block * layout.block
        yield Part(layout, data[start:end], data[first : first + whole])
        start = end


def _present(layout: Layout, available: int) -> int:
    """The bytes of samples that are declared and there. Raises BadRequest if some are missing."""
    size = layout.size
    if size == 0 or (layout.is_open_ended and size > available):
        return available
    # Up to one frame may be missing at the end: writers that stop in the middle of one are common.
    if size - available >= layout.block:
        raise BadRequest(f"audio: WAV is truncated: {size} bytes of samples declared, {available} are there")
    return min(size, available)


def _next_wav(data: memoryview, layout: Layout, position: int) -> int:
    """Where the next WAV begins, looking from the end of the samples on; the end of the file if none does.

    Other RIFF chunks may follow the samples. Raises BadRequest if what follows is neither: samples beyond the
    declared size would be lost.
    """
    declared_end = position
    for _ in range(_MAX_CHUNKS):
        # Chunks are padded to an even length, and some writers forget it.
        if data[position : position + 1] == b"\0":
            position += 1
        if position + 8 > len(data):
            return len(data)
        if is_wav(data[position:]):
            return position
        name, size = struct.unpack_from("<4sI", data, position)
        is_chunk = all(0x20 <= byte < 0x7F for byte in name) and position + 8 + size <= len(data) + 1
        if not is_chunk and name[:3] not in _TAGS:
            break
        position += 8 + size if is_chunk else len(data)
    beyond = len(data) - declared_end
    if beyond < _LEAST_SAMPLES_SECONDS * layout.sample_rate * layout.block or not any(data[declared_end:]):
        return len(data)
    raise BadRequest(
        f"audio: WAV goes on after the samples that its header declares: {layout.size} bytes are declared, "
        f"{layout.size + beyond} are there; a size of 0 means up to the end of the file"
    )


def blocks(data: memoryview, layout: Layout) -> Iterator[tuple[NDArray[Any], int]]:
    """Yield whole frames of a plain layout in blocks of a second: [frames, channels] and their rate in Hz."""
    step = layout.sample_rate * layout.block
    for start in range(0, len(data), step):
        yield samples(data[start : start + step], layout), layout.sample_rate


def samples(data: Buffer, layout: Layout) -> NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]:
    """Return whole frames of a plain layout as [frames, channels], without a copy if possible."""
    subtype = _SUBTYPES[layout.tag, layout.width]
    if subtype in _VIEWS:
        flat: NDArray[Any] = np.frombuffer(data, _VIEWS[subtype])
        return flat.reshape(-1, layout.channels)
    converted: NDArray[np.float32]
    converted, _ = soundfile.read(
        io.BytesIO(data),
        dtype="float32",
        samplerate=layout.sample_rate,
        channels=layout.channels,
        format="RAW",
        subtype=subtype,
        endian="LITTLE",
        always_2d=True,
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
