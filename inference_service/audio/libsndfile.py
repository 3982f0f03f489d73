"""Decodes with libsndfile: AIFF, AU, CAF, W64, RF64, VOC and the like, and the headers of rare formats."""

import io
from collections.abc import Callable, Iterator

import soundfile

from inference_service.audio.limits import check_rate_and_channels
from inference_service.audio.mono import Block
from inference_service.errors import BadRequest

_BLOCK_FRAMES = 1 << 14

#: libsndfile reports a stream of unknown length as a huge one.
_UNKNOWN_LENGTH = 1 << 40


class NotReadable(Exception):
    """libsndfile does not read this file; the text says why."""


class _File(io.BytesIO):
    """A file in memory that ignores a seek to before its start, which libsndfile does for invalid headers.

    An exception cannot pass through libsndfile, and would be printed to the log.
    """

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek to `offset` and return the position."""
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def blocks(
    data: memoryview, *, label: str | None, check: Callable[[], None], starts_with: Callable[[float], None]
) -> Iterator[Block]:
    """Yield the recording in blocks, float32 [frames, channels].

    `check` is called before each block, `starts_with` first, with the seconds that the header declares; both
    may raise. `label` names the format in messages. Raises NotReadable before the first block, BadRequest.
    """
    try:
        file = soundfile.SoundFile(_File(data))
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise NotReadable(_reason(error)) from error
    with file:
        name = label or file.format
        check_rate_and_channels(file.samplerate, file.channels, where=f"audio: {name} header: ")
        if 0 < file.frames < _UNKNOWN_LENGTH:
            starts_with(file.frames / file.samplerate)
        while True:
            check()
            try:
                block = file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise BadRequest(f"audio: {name} cannot be read to its end: {_reason(error)}") from error
            if not len(block):
                return
            yield block, file.samplerate


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")
