"""The one interface behind which every runtime stands.

A runtime turns audio or text into the results of `tasks`. It raises only `errors.ServiceError`s; cancelling
the awaiting coroutine cancels the work it started.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from inference_service.audio import Audio
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TranscribeOptions,
)


@dataclass(frozen=True, slots=True)
class Call:
    """What travels with one inference: who asked (for sessions and logs) and how long it may take."""

    request_id: str
    meeting_id: str = ""
    timeout: float | None = None  # seconds; None: the model's own limit alone


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the runtime and every configured model can answer now; `problems` says what cannot and why."""

    ready: bool
    problems: list[str] = field(default_factory=list)


class Runtime(Protocol):
    """What runs the models: Triton, Edge-LLM, or another inference service."""

    name: str  # triton, edge-llm or remote
    capabilities: frozenset[Task]

    async def start(self) -> None:
        """Open connections and compare the configured models with what the runtime has.

        Does not fail when the runtime is away: that is for `readiness` to say, and it may come back.
        """

    async def close(self) -> None:
        """Release connections, sessions and shared memory."""

    async def readiness(self) -> Readiness:
        """Ask the runtime itself, now, within one second."""

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Load or touch the task's model so that the next request does not wait for it."""

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text."""

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion."""

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text; its `duration_ms` is 0."""

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic."""
