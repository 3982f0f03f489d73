"""The boxes of MP4 and QuickTime files: what FFmpeg would allocate for them, and whether they are whole.

A few bytes of MP4 can declare billions of samples, for which FFmpeg allocates an index before it reads one.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from inference_service.errors import BadRequest

#: Most coded frames of a file. Half an hour of Opus in frames of 2.5 ms has 720,000, video fewer.
_MAX_SAMPLES = 4_000_000

#: Bytes of the index of a file. An hour of AAC needs less than 2 MB.
_MAX_INDEX_BYTES = 16_000_000

#: Boxes that hold boxes, on the way to those that count samples.
_HOLDERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"})

_MAX_BOXES = 100_000


@dataclass(frozen=True, slots=True)
class Box:
    """A box from `start`, with its content from `content` to `end`, all in bytes of the file. `declared_end`
    is beyond the end of a file that is cut."""

    kind: bytes
    start: int
    content: int
    end: int
    declared_end: int


def boxes(data: memoryview, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yield the boxes of [start, end) in order; the last one may declare more than there is.

    Raises BadRequest if there are absurdly many.
    """
    end = len(data) if end is None else end
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1 and start + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        if size == 0:
            size = end - start
        if size < content - start:
            return
        yield Box(kind, start, content, min(start + size, end), start + size)
        start += size
    raise BadRequest(f"audio: MP4 has more than {_MAX_BOXES} boxes in a row")


def check_boxes(data: memoryview) -> None:
    """Raise BadRequest for an MP4 without an index, and for one whose index declares what cannot be."""
    kinds = set()
    samples = 0
    for box in boxes(data):
        kinds.add(box.kind)
        if box.kind == b"moov" and box.end - box.start > _MAX_INDEX_BYTES:
            raise BadRequest(f"audio: MP4 has an index of more than {_MAX_INDEX_BYTES} bytes")
        if box.kind in _HOLDERS:
            samples += _samples(data, box, False)
        if samples > _MAX_SAMPLES:
            raise BadRequest(f"audio: MP4 declares more than {_MAX_SAMPLES} frames")
        if box.declared_end > len(data) and kinds >= {b"mdat", b"moov"} and b"moof" not in kinds:
            raise BadRequest(f"audio: MP4 is cut short: {box.declared_end - len(data)} bytes are missing")
    if not kinds & {b"moov", b"moof"}:
        raise BadRequest(
            "audio: MP4 is cut short or was never finished: its index (moov), without which the audio cannot "
            "be found, is missing"
        )


def _samples(data: memoryview, box: Box, is_sound: bool) -> int:
    """The samples that the tracks or fragments in `box` declare, but for PCM, which has no index of them."""
    inside = list(boxes(data, box.content, box.end))
    handlers = {bytes(data[each.content + 8 : each.content + 12]) for each in inside if each.kind == b"hdlr"}
    if handlers:
        is_sound = handlers == {b"soun"}
    total = declared = 0
    for inner in inside:
        if inner.kind in _HOLDERS:
            total += _samples(data, inner, is_sound)
        elif inner.kind in (b"stsz", b"stz2"):
            declared += _number(data, inner, 8)
        elif inner.kind == b"trun":
            declared += _number(data, inner, 4)
    # PCM: one entry of samples that last one tick each.
    ticks = [(_number(data, each, 4), _number(data, each, 12)) for each in inside if each.kind == b"stts"]
    is_pcm = is_sound and len(ticks) == 1 and ticks[0][0] == ticks[0][1] == 1
    return total + (0 if is_pcm else declared)


def _number(data: memoryview, box: Box, offset: int) -> int:
    """The 32-bit number at `offset` in the content of `box`, 0 where the box is shorter."""
    at = box.content + offset
    return struct.unpack_from(">I", data, at)[0] if at + 4 <= box.end else 0
