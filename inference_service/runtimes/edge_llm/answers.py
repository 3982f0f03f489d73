"""A unit's answer as the result of a task. A field that the task needs and the answer lacks is an error that
names it."""

import json
from typing import Annotated, Any, TypeVar

import msgspec

from inference_service.errors import RuntimeFailed
from inference_service.tasks import EmotionResult, SynthesisResult, Transcript

_T = TypeVar("_T")
_Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Scores = Annotated[dict[str, _Probability], msgspec.Meta(min_length=1)]


class Answer:
    """The joined deltas of one answer: a JSON object, or plain text."""

    def __init__(self, model: str, text: str) -> None:
        """`model` names the unit's model in errors."""
        self._model = model
        self._fields, self._plain = _parse(text)
        if (reported := self._fields.get("error")) not in (None, "", False):
            raise RuntimeFailed(f"{model} reported: {reported!s:.200}")

    def get(self, kind: type[_T], *names: str) -> _T:
        """The field with the first of these names in the answer, as a `kind`."""
        value = self._field(*names)
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise RuntimeFailed(
                f"the answer of {self._model} has `{names[0]}`: {value!r:.80}; {error}"
            ) from None

    def has(self, name: str) -> bool:
        """Whether the answer has this field."""
        return name in self._fields

    def _field(self, *names: str) -> Any:
        for name in names:
            if name in self._fields:
                return self._fields[name]
        wanted = " or ".join(f"`{name}`" for name in names)
        form = "it is empty" if not self._plain else f"it is plain text: {self._plain!r:.80}"
        fields = ", ".join(self._fields) or form
        raise RuntimeFailed(f"the answer of {self._model} has no {wanted} ({fields})")


def transcript(answer: Answer, language: str | None, duration_ms: int) -> Transcript:
    """`transcription` (or `text`), `confidence` and `language`.

    A unit for one language may omit `language`. The result then has the language of the request, and without
    one there it is an error. Plain text has no confidence, so it is an error too.
    """
    return Transcript(
        text=answer.get(str, "transcription", "text"),
        confidence=answer.get(_Probability, "confidence"),
        language=answer.get(str, "language") if answer.has("language") or not language else language,
        duration_ms=duration_ms,
    )


def emotion(answer: Answer, duration_ms: int) -> EmotionResult:
    """`emotion`, `confidence` and `all_emotions` (or `emotions`)."""
    return EmotionResult(
        emotion=answer.get(str, "emotion"),
        confidence=answer.get(_Probability, "confidence"),
        emotions=answer.get(_Scores, "all_emotions", "emotions"),
        duration_ms=duration_ms,
    )


def synthesis(answer: Answer, duration_ms: int) -> SynthesisResult:
    """`is_synthetic`, `confidence` and `probability_synthetic`, which is the score."""
    return SynthesisResult(
        is_synthetic=answer.get(bool, "is_synthetic"),
        confidence=answer.get(_Probability, "confidence"),
        score=answer.get(_Probability, "probability_synthetic"),
        duration_ms=duration_ms,
    )


def _parse(text: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}, text.strip()
    return (value, "") if isinstance(value, dict) else ({}, text.strip())
