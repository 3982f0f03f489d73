"""The interface of every runtime.

A runtime turns audio or text into the results of `tasks`. It raises only `errors.ServiceError`s. Cancelling
the awaiting coroutine cancels the work that it started.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Protocol

from inference_service.audio import Audio
from inference_service.errors import BadRequest
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    Priority,
    SynthesisResult,
    Task,
    TranscribeOptions,
)


@dataclass(frozen=True, slots=True)
class Call:
    """The context of one inference: the meeting and request (for sessions and logs), the time limit, and
    what it goes before."""

    request_id: str
    meeting_id: str = ""
    timeout: float | None = None  # seconds; None: only the model's own limit
    priority: Priority = Priority.SHORT
    via: str = ""  # the nodes that forwarded the request (`hops`)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the runtime and every configured model can answer now; `problems` has the reasons if not."""

    ready: bool
    problems: list[str] = field(default_factory=list)


#: Options of speech recognition that change the text, by the names of their fields.
TEXT_OPTIONS = ("prompt", "temperature", "hotwords", "languages", "translate")


def refuse_options(options: TranscribeOptions, model: str, heeded: Collection[str] = ()) -> None:
    """Raise BadRequest for one of `TEXT_OPTIONS` that is asked for and not `heeded`: a text without it would
    pass for one with it. `model` is what does not heed it, for the reason."""
    asked = {name for name in TEXT_OPTIONS if getattr(options, name)}
    if options.carry_text:
        asked.add("prompt")
    for name in TEXT_OPTIONS:
        if name in asked and name not in heeded:
            if name == "translate":
                raise BadRequest(f"model: {model} cannot translate")
            raise BadRequest(f"{name}: {model} does not take it")


class Runtime(Protocol):
    """Runs the models: Triton, Edge-LLM, or another inference service."""

    name: str  # triton, edge-llm or remote
    #: Where the runtime is, for logs. Its errors go to clients and name no address.
    address: str
    capabilities: frozenset[Task]
    #: The longest audio of one call of `transcribe` in seconds. None: the runtime cuts recordings itself.
    window_seconds: float | None

    async def start(self) -> None:
        """Open connections and compare the configured models with those of the runtime.

        Does not fail while the runtime is unreachable: `readiness` reports that, and it may come back.
        """

    async def close(self) -> None:
        """Release connections, sessions and shared memory."""

    async def readiness(self) -> Readiness:
        """Check the runtime itself, now, within one second."""

    def known(self, role: ModelRole) -> ModelDescription | None:
        """What is known of the model in this role, without asking anybody; None: nothing yet."""

    async def describe(self, role: ModelRole) -> ModelDescription:
        """What the model in this role says of itself now. Raises ServiceError where it cannot be asked."""

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Load or run the task's model, so that the next request does not wait for it."""

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text."""

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion."""

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text; its `duration_ms` is 0."""

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic."""
