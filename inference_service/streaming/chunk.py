"""The input and the output of a stream: chunks and results."""

from dataclasses import dataclass

from inference_service.tasks import Task, TaskResult


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a stream as the client sent it. An empty `format` or `tasks`, or a zero `sample_rate` or
    `channels`, keeps the value of an earlier chunk."""

    data: bytes = b""
    sequence: int = 0
    stream_id: str = ""
    meeting_id: str = ""
    format: str = ""
    sample_rate: int = 0  # Hz
    channels: int = 0
    tasks: tuple[str, ...] = ()  # as in the request: capability names or short ones
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The result of `task` for the audio since the last final result of the stream.

    `sequence` is the number of the last chunk with audio in this result. A later result replaces one that is
    not `is_final`. The final results together cover the stream without gap or overlap. `timestamp` is seconds
    since the epoch.
    """

    stream_id: str
    sequence: int
    task: Task
    data: TaskResult
    is_final: bool
    timestamp: float
