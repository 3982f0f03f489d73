"""Emotion and synthetic speech in a real Triton."""

from __future__ import annotations

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from inference_service.audio.mel import log_mel
from tests.triton_server import MODEL_REPOSITORY

LABELS = json.loads((MODEL_REPOSITORY / "emotion" / "labels.json").read_text())


def scores(logits: np.ndarray) -> dict[str, float]:
    weights = np.exp(logits - logits.max())
    return dict(zip(LABELS, weights / weights.sum(), strict=True))


def of_voice(models, audio) -> dict[str, float]:
    return scores(models.infer("emotion", audio_input=audio.astype(np.float32))["logits"])


def of_text(models, text: str) -> dict[str, float]:
    return scores(models.infer("emotion-text", text=np.array([text.encode()], object))["logits"])


def likeliest(found: dict[str, float]) -> str:
    return max(found, key=found.__getitem__)


def synthetic(models, mel: np.ndarray) -> float:
    return float(models.infer("synthesis", audio_input=np.ascontiguousarray(mel))["synthesis_output"][0])


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(16000),
        np.zeros(1),
        np.ones(16000),
        np.sin(np.arange(48000) * 0.02),
        np.random.default_rng(0).normal(size=48000),
    ],
    ids=["silence", "one sample", "constant", "hum", "noise"],
)
def test_without_a_voice_the_emotion_is_neutral_and_unsure(models, audio):
    found = of_voice(models, audio)
    assert likeliest(found) == "neutral"
    assert found["neutral"] < 0.4


def test_loudness_does_not_change_the_emotion_of_a_voice(models, speech):
    quiet, loud = of_voice(models, speech * 0.05), of_voice(models, speech)
    assert quiet == pytest.approx(loud, abs=0.02)


def test_a_voice_that_is_raised_and_hurried_turns_from_sad_to_angry(models, speech):
    """The same recording, played slower and deeper or faster and higher."""

    def played(speed: float) -> dict[str, float]:
        return of_voice(models, np.interp(np.arange(0, speech.size, speed), np.arange(speech.size), speech))

    found = [played(speed) for speed in (0.7, 0.85, 1.0, 1.2, 1.4)]
    assert all(slower["sad"] > faster["sad"] for slower, faster in pairwise(found))
    assert all(slower["angry"] < faster["angry"] for slower, faster in pairwise(found))
    assert (likeliest(found[0]), likeliest(found[-1])) == ("neutral", "angry")


def test_refuses_a_voice_that_is_not_numbers(models):
    with pytest.raises(InferenceServerException, match="audio_input: samples must be finite"):
        of_voice(models, np.full(1000, np.nan))


@pytest.mark.parametrize(
    ("text", "emotion"),
    [
        ("I am so happy for you!", "happy"),
        ("I am not happy at all.", "sad"),
        ("I miss her terribly and I cry every night.", "sad"),
        ("This is unacceptable, I am furious!", "angry"),
        ("I am terrified of the dark.", "fearful"),
        ("Wow, that was unexpected!", "surprised"),
        ("There is nothing to worry about.", "neutral"),
        ("The meeting starts at ten.", "neutral"),
        ("我今天很高兴", "happy"),
        ("我不高兴", "sad"),
        ("", "neutral"),
        ("!!! ??? 123", "neutral"),
    ],
)
def test_hears_the_emotion_of_a_text(models, text, emotion):
    assert likeliest(of_text(models, text)) == emotion


def test_a_stronger_word_is_surer_and_a_text_without_one_is_unsure(models):
    assert of_text(models, "I am delighted.")["happy"] > of_text(models, "I am glad.")["happy"]
    assert of_text(models, "The bus is blue-green.")["neutral"] < 0.5


def test_a_text_of_a_hundred_thousand_words_has_finite_scores(models):
    found = of_text(models, "happy " * 100_000)
    assert likeliest(found) == "happy"
    assert np.isfinite(list(found.values())).all()


def test_refuses_a_text_that_is_not_utf8(models):
    with pytest.raises(InferenceServerException, match="text: not UTF-8"):
        models.infer("emotion-text", text=np.array([b"\xff\xfe"], object))


def test_the_recorded_voice_is_taken_for_human(models, speech):
    assert synthetic(models, log_mel(speech)) < 0.3


def test_a_synthesiser_that_was_not_trained_on_moves_the_verdict_from_human(models, speech):
    """The sound is vowels from pulses through fixed formants, as in the oldest speech synthesis."""
    rate, seconds = 16000, 5
    time = np.arange(rate * seconds) / rate
    phase = time * 110 - np.cos(2 * np.pi * 0.7 * time) * 10 / (2 * np.pi * 0.7)
    pulses = (np.diff(np.floor(phase), prepend=0) > 0).astype(float)
    hertz = np.fft.rfftfreq(rate // 5, 1 / rate)
    vowels = [(700, 1200, 2500), (300, 2200, 2900), (400, 800, 2400), (500, 1700, 2500)]
    voice = np.concatenate(
        [
            np.fft.irfft(np.fft.rfft(part) * sum(1 / (1 + ((hertz - f) / 60) ** 2) for f in vowels[i % 4]))
            for i, part in enumerate(np.split(pulses, seconds * 5))
        ]
    )
    voice *= 0.3 / np.abs(voice).max()
    human, machine = synthetic(models, log_mel(speech)), synthetic(models, log_mel(voice.astype(np.float32)))
    assert machine > human + 0.2


def test_loudness_does_not_change_the_synthesis_verdict(models, speech):
    assert synthetic(models, log_mel(speech * 0.1)) == pytest.approx(
        synthetic(models, log_mel(speech)), abs=0.02
    )


@pytest.mark.parametrize(
    "mel",
    [
        log_mel(np.zeros(16000, np.float32)),
        log_mel(np.full(160000, 0.5, np.float32)),
        np.zeros((80, 1), np.float32),
        np.zeros((80, 0), np.float32),
    ],
    ids=["silence", "a constant offset", "one frame", "no frame"],
)
def test_without_sound_that_moves_the_synthesis_verdict_is_undecided(models, mel):
    assert synthetic(models, mel) == 0.5


def test_refuses_features_that_are_not_numbers(models):
    with pytest.raises(InferenceServerException, match="audio_input: values must be finite"):
        synthetic(models, np.full((80, 100), np.inf, np.float32))


def test_the_readme_quotes_what_the_text_model_scores(models):
    sentences = json.loads((MODEL_REPOSITORY / "emotion-text" / "evaluation" / "sentences.json").read_text())
    right = sum(likeliest(of_text(models, text)) == expected for expected, text in sentences)
    quoted = re.search(r"labels (\d+) of (\d+) correctly", (MODEL_REPOSITORY / "README.md").read_text())
    assert quoted is not None
    assert (right, len(sentences)) == tuple(map(int, quoted.groups()))
