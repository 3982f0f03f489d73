"""Examples of answers in the API's description. A test holds them against the schemas."""

from collections.abc import Mapping
from typing import Any

import msgspec

from inference_service.http.openai.answers import Language as SpokenLanguage
from inference_service.http.openai.answers import Model, ModelList, Transcription, Usage
from inference_service.http.openai.errors import error_answer
from inference_service.tasks import EmotionResult, ModelKind, SynthesisResult, Transcript

_TIME = "2026-01-31T12:00:00.000Z"
_REQUEST = "4f1c6a0e5d7b4c55a1d2b0f4b8a3c9e7"
_TEXT = "And so my fellow Americans, ask not what your country can do for you."

#: What a route answers, by the type of its data.
DATA: Mapping[type, Any] = {
    Transcript: Transcript(_TEXT, 0.91, "en", 11_000, ModelKind.NEURAL),
    EmotionResult: EmotionResult(
        "neutral",
        0.62,
        {"neutral": 0.62, "happy": 0.21, "sad": 0.17},
        11_000,
        ModelKind.RULE,
        "it hears arousal only",
    ),
    SynthesisResult: SynthesisResult(False, 0.96, 0.04, 11_000, ModelKind.RULE, "it misses neural voices"),
}


def enveloped(data: Any) -> Any:
    """A success in the envelope."""
    return {
        "code": 200,
        "message": "success",
        "data": msgspec.to_builtins(data),
        "timestamp": _TIME,
        "request_id": _REQUEST,
    }


def refused(status: int, reason: str) -> Any:
    """An error in the envelope."""
    return {"code": status, "message": reason, "data": None, "timestamp": _TIME, "request_id": _REQUEST}


def refused_by_openai(status: int, reason: str) -> Any:
    """An error as OpenAI's clients read it."""
    return msgspec.to_builtins(error_answer(status, reason))


TRANSCRIPTION = msgspec.to_builtins(Transcription(_TEXT, Usage(11.0), languages=[SpokenLanguage("en")]))
SUBRIP = "1\n00:00:00,320 --> 00:00:02,180\nAnd so my fellow Americans,\n\n"
WEBVTT = "WEBVTT\n\n00:00:00.320 --> 00:00:02.180\nAnd so my fellow Americans,\n\n"
TEXT = f"{_TEXT}\n"
EVENTS = (
    'data: {"type":"transcript.text.delta","delta":"And so my fellow Americans,"}\n\n'
    'data: {"type":"transcript.text.done","text":"And so my fellow Americans,"}\n\n'
)
MODEL = msgspec.to_builtins(
    Model("whisper-1", 0, "model", "gpu-inference-fleet", ModelKind.NEURAL, languages=["en"])
)
MODELS = msgspec.to_builtins(ModelList([])) | {"data": [MODEL]}
