"""A unit's answer becomes a result only if it has the fields that the task needs."""

from __future__ import annotations

import json

import pytest

from inference_service.errors import RuntimeFailed
from inference_service.runtimes.edge_llm import answers
from inference_service.runtimes.edge_llm.answers import Answer
from inference_service.tasks import EmotionResult, SynthesisResult, Transcript

pytestmark = pytest.mark.fast

ASR = {"transcription": "hello", "confidence": 0.9, "language": "en"}
EMOTION = {"emotion": "happy", "confidence": 0.8, "all_emotions": {"happy": 0.8, "sad": 0.2}}
SYNTHESIS = {"is_synthetic": False, "confidence": 0.7, "probability_synthetic": 0.3}


def transcript(text: str, language: str | None = None) -> Transcript:
    return answers.transcript(Answer("asr-model", text), language, 1000)


def test_whole_answers_become_results() -> None:
    assert transcript(json.dumps(ASR)) == Transcript("hello", 0.9, "en", 1000)
    assert transcript(json.dumps({"text": "hello", "confidence": 1, "language": "en"})).text == "hello"
    assert answers.emotion(Answer("m", json.dumps(EMOTION)), 5) == EmotionResult(
        "happy", 0.8, {"happy": 0.8, "sad": 0.2}, 5
    )
    assert answers.synthesis(Answer("m", json.dumps(SYNTHESIS)), 5) == SynthesisResult(False, 0.7, 0.3, 5)


@pytest.mark.parametrize("field", ASR)
def test_a_transcript_without_a_field_is_an_error_naming_it(field: str) -> None:
    with pytest.raises(RuntimeFailed, match=f"the answer of asr-model has no `{field}`"):
        transcript(json.dumps({key: value for key, value in ASR.items() if key != field}))


@pytest.mark.parametrize("field", EMOTION)
def test_an_emotion_without_a_field_is_an_error_naming_it(field: str) -> None:
    with pytest.raises(RuntimeFailed, match=f"`{field}`"):
        answers.emotion(Answer("m", json.dumps({k: v for k, v in EMOTION.items() if k != field})), 0)


@pytest.mark.parametrize("field", SYNTHESIS)
def test_a_verdict_without_a_field_is_an_error_naming_it(field: str) -> None:
    with pytest.raises(RuntimeFailed, match=f"`{field}`"):
        answers.synthesis(Answer("m", json.dumps({k: v for k, v in SYNTHESIS.items() if k != field})), 0)


def test_a_unit_for_one_language_gives_the_language_that_was_asked_for() -> None:
    answer = json.dumps({"transcription": "bonjour", "confidence": 0.5})
    assert transcript(answer, language="fr").language == "fr"


@pytest.mark.parametrize("value", [1.5, -0.1, "0.9", True, None])
def test_a_confidence_that_is_no_probability_is_an_error_naming_it(value: object) -> None:
    with pytest.raises(RuntimeFailed, match="`confidence`"):
        transcript(json.dumps(ASR | {"confidence": value}))


def test_nan_is_no_probability() -> None:
    with pytest.raises(RuntimeFailed, match="`confidence`"):
        transcript('{"transcription": "x", "confidence": NaN, "language": "en"}')


def test_plain_text_has_no_confidence_and_says_so() -> None:
    with pytest.raises(
        RuntimeFailed, match=r"no `transcription` or `text` \(it is plain text: 'hello there'\)"
    ):
        transcript("hello there")


def test_an_empty_answer_says_so() -> None:
    with pytest.raises(RuntimeFailed, match="it is empty"):
        transcript("")


def test_an_error_that_the_unit_reports_in_its_answer_is_an_error() -> None:
    with pytest.raises(RuntimeFailed, match="asr-model reported: empty output"):
        transcript(json.dumps(ASR | {"error": "empty output"}))
