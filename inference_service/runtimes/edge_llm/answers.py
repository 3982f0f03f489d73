"""A unit's answer as the result of a task. A field that the task needs and the answer lacks is an error that
names it."""

from __future__ import annotations

import json
from typing import Any

from inference_service.errors import RuntimeFailed
from inference_service.tasks import EmotionResult, SynthesisResult, Transcript


class Answer:
    """The joined deltas of one answer: a JSON object, or plain text."""

    def __init__(self, model: str, text: str) -> None:
        """`model` names the unit's model in errors."""
        self._model = model
        self._fields, self._plain = _parse(text)
        if (reported := self._fields.get("error")) not in (None, "", False):
            raise RuntimeFailed(f"{model} reported: {reported!s:.200}")

    def text(self, *names: str) -> str:
        """The text field with the first of these names in the answer."""
        value = self._field(*names)
        if not isinstance(value, str):
            raise RuntimeFailed(f"the answer of {self._model} has `{names[0]}`: {value!r:.80}, not a text")
        return value

    def flag(self, name: str) -> bool:
        """A true-or-false field."""
        value = self._field(name)
        if not isinstance(value, bool):
            raise RuntimeFailed(f"the answer of {self._model} has `{name}`: {value!r:.80}, not true or false")
        return value

    def probability(self, name: str) -> float:
        """A number in [0, 1]."""
        return self._probability(name, self._field(name))

    def scores(self, *names: str) -> dict[str, float]:
        """An object of labels and numbers in [0, 1]."""
        value = self._field(*names)
        if not isinstance(value, dict) or not value:
            raise RuntimeFailed(
                f"the answer of {self._model} has `{names[0]}`: {value!r:.80}, not an object of scores"
            )
        return {label: self._probability(f"{names[0]}.{label}", score) for label, score in value.items()}

    def has(self, name: str) -> bool:
        """Whether the answer has this field."""
        return name in self._fields

    def _field(self, *names: str) -> Any:
        for name in names:
            if name in self._fields:
                return self._fields[name]
        wanted = " or ".join(f"`{name}`" for name in names)
        form = "it is empty" if not self._plain else f"it is plain text: {self._plain!r:.80}"
        found = ", ".join(self._fields) or form
        raise RuntimeFailed(f"the answer of {self._model} has no {wanted} ({found})")

    def _probability(self, name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise RuntimeFailed(
                f"the answer of {self._model} has `{name}`: {value!r:.80}, not a number from 0 to 1"
            )
        return float(value)


def transcript(answer: Answer, language: str | None, duration_ms: int) -> Transcript:
    """`transcription` (or `text`), `confidence` and `language`.

    A unit for one language may omit `language`. The result then has the language of the request, and without
    one there it is an error. Plain text has no confidence, so it is an error too.
    """
    return Transcript(
        text=answer.text("transcription", "text"),
        confidence=answer.probability("confidence"),
        language=answer.text("language") if answer.has("language") or not language else language,
        duration_ms=duration_ms,
    )


def emotion(answer: Answer, duration_ms: int) -> EmotionResult:
    """`emotion`, `confidence` and `all_emotions` (or `emotions`)."""
    return EmotionResult(
        emotion=answer.text("emotion"),
        confidence=answer.probability("confidence"),
        emotions=answer.scores("all_emotions", "emotions"),
        duration_ms=duration_ms,
    )


def synthesis(answer: Answer, duration_ms: int) -> SynthesisResult:
    """`is_synthetic`, `confidence` and `probability_synthetic`, which is the score."""
    return SynthesisResult(
        is_synthetic=answer.flag("is_synthetic"),
        confidence=answer.probability("confidence"),
        score=answer.probability("probability_synthetic"),
        duration_ms=duration_ms,
    )


def _parse(text: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}, text.strip()
    return (value, "") if isinstance(value, dict) else ({}, text.strip())
