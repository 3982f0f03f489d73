"""The tasks of the service, and the types of their results.

The result types are the `data` of the HTTP envelope and the JSON of gRPC's `result_data`: one set of
types for every entrance and every runtime. A runtime without a value for a field raises `RuntimeFailed`; no
default stands in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec


class Task(StrEnum):
    """A task that the service does with audio. The values are its names in requests and answers."""

    ASR = "speech_recognition"
    EMOTION = "emotion_detection"
    SYNTHESIS = "synthesis_detection"

    @property
    def model(self) -> str:
        """The task's key in `ai.models`, in `/info` and in `/setup`: asr, emotion or synthesis."""
        return self.name.lower()


class ModelKind(StrEnum):
    """How a model comes to its answers.

    `neural`: a trained neural network. `rule`: a formula over a few hand-made features, written by hand or
    fitted. `lexicon`: a list of words with rules. `unknown`: the model does not say it.
    """

    NEURAL = "neural"
    RULE = "rule"
    LEXICON = "lexicon"
    UNKNOWN = "unknown"


#: ISO 639's code for a language that nobody named.
UNDETERMINED = "und"


class Priority(IntEnum):
    """Which work goes first, here and in Triton: these are the priority levels of the model `asr`."""

    LIVE = 1  # final results of streams
    SHORT = 2  # a recording of one window, partial results of streams
    LONG = 3  # the windows of longer recordings


#: The names of tasks in requests: the capability names and the short names.
TASK_NAMES: dict[str, Task] = {
    **{task.value: task for task in Task},
    **{task.model: task for task in Task},
}


#: Numbers in results, with their bounds for the API's description. Decoding does not check them.
Share = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
Milliseconds = Annotated[
    int, msgspec.Meta(extra_json_schema={"minimum": 0, "description": "Length of the audio in milliseconds"})
]


class Word(msgspec.Struct, frozen=True):
    """One word of a transcript; times in seconds from the start of the audio."""

    word: str
    start: float
    end: float
    probability: float


class Segment(msgspec.Struct, frozen=True):
    """A segment of a transcript; times in seconds from the start of the audio."""

    id: int
    start: float
    end: float
    text: str
    avg_logprob: float
    no_speech_prob: float
    words: list[Word] | None = None


#: Of a result: what answers of this model cannot be trusted with. It and `kind` are absent where the model
#: does not say them.
Caveat = Annotated[str, msgspec.Meta(description="What this model's answers cannot be trusted with")]


class Transcript(msgspec.Struct, frozen=True, omit_defaults=True):
    """`data` of `/asr`. `confidence` is None where the model has none."""

    text: str
    confidence: Share | None
    language: str
    duration_ms: Milliseconds
    kind: ModelKind | None = None
    caveat: Caveat | None = None


class EmotionResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """`data` of `/emotion`: the likeliest label, its score, and every label's score (they sum to 1)."""

    emotion: str
    confidence: Share
    emotions: dict[str, Share]
    duration_ms: Milliseconds
    kind: ModelKind | None = None
    caveat: Caveat | None = None


class SynthesisResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """`data` of `/synthesis`. `score` is the probability in [0, 1] that the speech is synthetic;
    `confidence` is the probability of the verdict given, max(score, 1 - score)."""

    is_synthetic: bool
    confidence: Share
    score: Share
    duration_ms: Milliseconds
    kind: ModelKind | None = None
    caveat: Caveat | None = None


TaskResult = Transcript | EmotionResult | SynthesisResult


class ModelStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """One model as `/setup` and `/health` see it."""

    model_name: str
    ready: bool
    model_path: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TranscribeOptions:
    """Options of speech recognition that a client may set.

    `prompt` is earlier text for context; `temperature` is Whisper's sampling temperature (0: greedy/beam).
    `languages` are those that may be spoken, where `language` names none: one of them is detected.
    `hotwords` are words to expect, separated by commas. `translate`: the text is English, whatever is spoken.
    `carry_text`: a recording's windows are recognised one after the other, each with the text before it.
    `draft`: a quick answer, where the model knows a way, for results that later ones replace.
    """

    language: str | None = None
    word_timestamps: bool = False
    prompt: str | None = None
    temperature: float = 0.0
    carry_text: bool = False
    draft: bool = False
    hotwords: str | None = None
    languages: tuple[str, ...] = ()
    translate: bool = False


@dataclass(frozen=True, slots=True)
class DetailedTranscript:
    """A transcript with its segments, for subtitles and streaming. Some runtimes give no segments."""

    transcript: Transcript
    segments: list[Segment] = field(default_factory=list)
