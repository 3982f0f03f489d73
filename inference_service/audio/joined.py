"""Finds recordings that were joined end to end: chained Ogg, and files written one after the other.

Decoders end with the first of them, or take the second one's header for damage. Joined MP3, AAC, AMR and WebM
need no cutting: their frames follow each other, and FFmpeg reads on.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from inference_service.audio.boxes import boxes
from inference_service.audio.sniff import FLAC, MP4, OGG, Content
from inference_service.errors import BadRequest

#: More parts than a day of a radio station's songs has.
_MAX_PARTS = 1000

#: The header object of an ASF file.
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")

_OGG_HEADER = 27
_OGG_FIRST_PAGE = 2

#: A FLAC file's signature and the header of its first block, which is the last one or is not.
_FLAC_STARTS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")


def parts(data: memoryview, content: Content) -> list[memoryview]:
    """Return the recordings in `data`, which is `content`, in order: mostly one, which is all of `data`.

    Raises BadRequest if there are too many.
    """
    starts: list[int] = []
    for start in _starts(data, content):
        starts.append(start)
        if len(starts) > _MAX_PARTS:
            raise BadRequest(f"audio: more than {_MAX_PARTS} {content.label} files are joined in this one")
    edges = [0, *(start for start in starts if start), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def _starts(data: memoryview, content: Content) -> Iterator[int]:
    """Where recordings begin, in order; the first one's start may be left out."""
    find = _FINDERS.get(content.label)
    return find(data) if find is not None else iter(())


def _ogg(data: memoryview) -> Iterator[int]:
    """The starts of the links of an Ogg chain: first pages of streams that follow other pages."""
    whole = _bytes(data)
    position, in_headers = 0, True
    while (position := whole.find(b"OggS", position)) >= 0 and position + _OGG_HEADER <= len(whole):
        is_first = bool(whole[position + 5] & _OGG_FIRST_PAGE)
        if is_first and not in_headers:
            yield position
        in_headers = is_first
        segments = whole[position + 26]
        lacing = whole[position + _OGG_HEADER : position + _OGG_HEADER + segments]
        position += _OGG_HEADER + segments + sum(lacing)


def _flac(data: memoryview) -> Iterator[int]:
    whole = _bytes(data)
    position = 0
    while (position := whole.find(b"fLaC", position)) >= 0:
        if whole[position : position + 8] in _FLAC_STARTS:
            yield position
        position += 4


def _mp4(data: memoryview) -> Iterator[int]:
    """The file types, with which files begin, after the audio of an earlier file."""
    has_audio = False
    for box in boxes(data):
        if box.kind == b"ftyp" and has_audio:
            yield box.start
            has_audio = False
        has_audio = has_audio or box.kind == b"mdat"


def _iff(data: memoryview) -> Iterator[int]:
    """The starts of AIFF files, each of which declares its size."""
    position = 0
    while bytes(data[position : position + 4]) == b"FORM":
        yield position
        size = int.from_bytes(data[position + 4 : position + 8], "big")
        position += 8 + size + (size & 1)


def _au(data: memoryview) -> Iterator[int]:
    """The starts of AU files of known size."""
    position = 0
    while bytes(data[position : position + 4]) == b".snd":
        yield position
        header, size = (int.from_bytes(data[position + at : position + at + 4], "big") for at in (4, 8))
        if header < 24:
            return
        position += header + size


def _caf(data: memoryview) -> Iterator[int]:
    """The starts of CAF files, whose chunks declare their sizes."""
    position = 0
    while position + 12 <= len(data):
        if bytes(data[position : position + 4]) == b"caff":
            yield position
            position += 8
            continue
        size = int.from_bytes(data[position + 4 : position + 12], "big", signed=True)
        if size < 0:
            return
        position += 12 + size


def _asf(data: memoryview) -> Iterator[int]:
    whole = _bytes(data)
    position = 0
    while (position := whole.find(_ASF_HEADER, position)) >= 0:
        yield position
        position += len(_ASF_HEADER)


def _bytes(data: memoryview) -> bytes:
    """The data as bytes, which can be searched; a copy only of a part."""
    return data.obj if isinstance(data.obj, bytes) and len(data.obj) == len(data) else bytes(data)


_FINDERS: dict[str, Callable[[memoryview], Iterator[int]]] = {
    OGG.label: _ogg,
    FLAC.label: _flac,
    MP4.label: _mp4,
    "AIFF": _iff,
    "AU": _au,
    "CAF": _caf,
    "WMA (ASF)": _asf,
}
