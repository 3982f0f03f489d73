"""A stream's format: the type of its chunks' audio and the tasks."""

from __future__ import annotations

from dataclasses import dataclass

from inference_service import audio_formats as formats
from inference_service.audio import headerless
from inference_service.audio.limits import check_rate_and_channels
from inference_service.errors import BadRequest
from inference_service.streaming.chunk import Chunk
from inference_service.tasks import TASK_NAMES, Task

#: Hz, the default rate of a PCM stream.
DEFAULT_SAMPLE_RATE = 48_000

WAV = formats.WITH_HEADER[0]

#: Formats with a header whose audio can be decoded while it comes.
_WITH_HEADER = (
    "wav",
    "webm",
    "mp4",
    "3gp",
    "ogg",
    "mp3",
    "aac",
    "flac",
    "amr",
    "ac3",
    "wma",
    "mpegts",
    "flv",
)

STREAMED = tuple(
    each for each in formats.FORMATS if each.name in _WITH_HEADER or isinstance(each, formats.Headerless)
)


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """Holds until a later chunk changes it.

    `sample_rate` (Hz, 0: the format's default) and `channels` describe audio without a header. Otherwise the
    stream's own header has them.
    """

    kind: formats.AudioFormat = formats.PCM
    sample_rate: int = 0
    channels: int = 1
    tasks: tuple[Task, ...] = (Task.ASR,)

    def changed_by(self, chunk: Chunk) -> StreamFormat:
        """The format from `chunk` on. Raises BadRequest with the chunk's field and the allowed values."""
        if not (chunk.format or chunk.sample_rate or chunk.channels or chunk.tasks):
            return self
        kind = _kind(chunk.format) if chunk.format else self.kind
        changed = StreamFormat(
            kind=kind,
            sample_rate=chunk.sample_rate or (self.sample_rate if kind is self.kind else 0),
            channels=chunk.channels or self.channels,
            tasks=parse_tasks(chunk.tasks) if chunk.tasks else self.tasks,
        )
        if isinstance(kind, formats.Headerless):
            headerless.layout(kind, changed.rate, changed.channels)
        else:
            check_rate_and_channels(changed.rate, changed.channels, where="")
        return changed

    @property
    def rate(self) -> int:
        """The sample rate of audio without a header in Hz."""
        if self.sample_rate or self.kind is formats.PCM or not isinstance(self.kind, formats.Headerless):
            return self.sample_rate or DEFAULT_SAMPLE_RATE
        return self.kind.default_rate

    def same_audio(self, other: StreamFormat) -> bool:
        """Whether both formats describe the same audio."""
        if self.kind is not other.kind:
            return False
        is_described = isinstance(self.kind, formats.Headerless)
        return not is_described or (self.rate, self.channels) == (other.rate, other.channels)


def parse_tasks(names: tuple[str, ...]) -> tuple[Task, ...]:
    """The tasks with these names, in order, each once. Raises BadRequest for an unknown name."""
    for name in names:
        if name not in TASK_NAMES:
            raise BadRequest(f'tasks: "{name[:40]}" is not a task; allowed are {", ".join(TASK_NAMES)}')
    return tuple(dict.fromkeys(TASK_NAMES[name] for name in names))


def _kind(name: str) -> formats.AudioFormat:
    kind = formats.named(name)
    if kind is None or kind not in STREAMED:
        allowed = ", ".join(each.name for each in STREAMED)
        raise BadRequest(f'format: "{name[:40]}" cannot be streamed; allowed are {allowed}')
    return kind
