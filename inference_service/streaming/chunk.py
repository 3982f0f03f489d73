"""What goes into a stream and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass

from inference_service.tasks import Task, TaskResult


@dataclass(frozen=True, slots=True)
class Chunk:
    """One piece of a stream as the client sent it. An empty `format` or `tasks`, or a zero `sample_rate` or
    `channels`, leaves as it is what an earlier chunk of the stream said."""

    data: bytes = b""
    sequence: int = 0
    stream_id: str = ""
    meeting_id: str = ""
    format: str = ""
    sample_rate: int = 0  # Hz
    channels: int = 0
    tasks: tuple[str, ...] = ()  # as asked for: capability names or short ones
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What `task` found in the audio since the stream's last final result.

    `sequence` is that of the last chunk of which any audio is in this result. A result that is not
    `is_final` will be replaced by a later one; the final results, joined, cover the stream without gap or
    overlap. `timestamp` is seconds since the epoch.
    """

    stream_id: str
    sequence: int
    task: Task
    data: TaskResult
    is_final: bool
    timestamp: float
