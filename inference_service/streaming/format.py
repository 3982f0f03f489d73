"""A stream's format: the type of its chunks' audio and the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from inference_service.audio.decode import PCM_FORMATS
from inference_service.audio.limits import check_rate_and_channels
from inference_service.errors import BadRequest
from inference_service.streaming.chunk import Chunk
from inference_service.tasks import TASK_NAMES, Task

#: Hz, the default rate of a PCM stream.
DEFAULT_SAMPLE_RATE = 48_000

_WAV_FORMATS = frozenset({"wav", "wave"})


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """Holds until a later chunk changes it.

    `sample_rate` (Hz) and `channels` describe PCM. For WAV they are in the stream's own header.
    """

    is_wav: bool = False
    sample_rate: int = DEFAULT_SAMPLE_RATE
    channels: int = 1
    tasks: tuple[Task, ...] = (Task.ASR,)

    def changed_by(self, chunk: Chunk) -> StreamFormat:
        """The format from `chunk` on. Raises BadRequest with the chunk's field and the allowed values."""
        if not (chunk.format or chunk.sample_rate or chunk.channels or chunk.tasks):
            return self
        changed = StreamFormat(
            is_wav=_is_wav(chunk.format) if chunk.format else self.is_wav,
            sample_rate=chunk.sample_rate or self.sample_rate,
            channels=chunk.channels or self.channels,
            tasks=parse_tasks(chunk.tasks) if chunk.tasks else self.tasks,
        )
        check_rate_and_channels(changed.sample_rate, changed.channels, where="")
        return changed

    def same_audio(self, other: StreamFormat) -> bool:
        """Whether both formats describe the same audio."""
        if self.is_wav or other.is_wav:
            return self.is_wav and other.is_wav
        return (self.sample_rate, self.channels) == (other.sample_rate, other.channels)


def parse_tasks(names: tuple[str, ...]) -> tuple[Task, ...]:
    """The tasks with these names, in order, each once. Raises BadRequest for an unknown name."""
    for name in names:
        if name not in TASK_NAMES:
            raise BadRequest(f'tasks: "{name[:40]}" is not a task; allowed are {", ".join(TASK_NAMES)}')
    return tuple(dict.fromkeys(TASK_NAMES[name] for name in names))


def _is_wav(name: str) -> bool:
    lowered = name.strip().lower()
    if lowered in _WAV_FORMATS:
        return True
    if lowered in PCM_FORMATS:
        return False
    raise BadRequest(
        f'format: "{name[:40]}" cannot be streamed; allowed are pcm (16-bit little-endian) and wav'
    )
