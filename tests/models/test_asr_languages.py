"""Speech recognition with the default weights: multilingual Whisper base."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tests.bench.speech import read
from tests.bench.words import prompts
from tests.models.conftest import Models, languages_of
from tests.models.test_asr import RATE, word_error_rate
from tests.triton_server import triton_server

PROMPTS = Path("/usr")
MUSIC = Path("/usr/share/asterisk/moh")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("triton-base")
    with triton_server(folder, models=["asr"], environment={"ASR_MODEL_PATH": ""}) as ports:
        yield Models(f"127.0.0.1:{ports.grpc}")


def test_detects_the_language_and_hears_every_word(base, speech, words):
    heard = base.asr(speech)
    assert heard.language == "en"
    assert word_error_rate(words, heard.text) <= 0.05


def test_says_which_languages_its_weights_know(base):
    known = languages_of(base)
    assert len(known) == 99
    assert {"en", "es", "ka", "zh"} <= set(known)


@pytest.mark.parametrize(("asked", "code"), [("es", "es"), ("Georgian", "ka"), ("pt-BR", "pt")])
def test_takes_languages_by_code_and_by_name(base, asked, code):
    """Of silence: Whisper would try all temperatures on speech in another language."""
    assert base.asr(np.zeros(RATE), asked).language == code


def test_refuses_a_language_that_there_is_not(base, speech):
    with pytest.raises(InferenceServerException, match=r"language: .* does not know 'Klingon', only af, am"):
        base.asr(speech, "Klingon")


def test_detects_one_of_the_languages_that_are_possible(base, speech):
    assert base.asr(speech, options=json.dumps({"languages": ["fr", "English"]})).language == "en"
    assert base.asr(speech, options=json.dumps({"languages": ["de", "nl"]})).language in ("de", "nl")
    with pytest.raises(InferenceServerException, match="does not know 'Klingon'"):
        base.asr(speech, options=json.dumps({"languages": ["de", "Klingon"]}))


def test_translates_into_english(base, speech, words):
    heard = base.asr(speech, "en", json.dumps({"task": "translate"}))
    assert word_error_rate(words, heard.text) <= 0.2


def test_words_have_times(base, speech, words):
    segments = base.asr(speech, options=json.dumps({"word_timestamps": True})).segments
    timed = [word for segment in segments for word in segment["words"]]
    assert word_error_rate(words, " ".join(word["word"] for word in timed)) <= 0.05
    times = [moment for word in timed for moment in (word["start"], word["end"])]
    assert times == sorted(times)


def test_makes_nothing_up_where_nobody_speaks(base):
    noise = np.random.default_rng(1).normal(0, 0.01, 10 * RATE)
    assert base.asr(noise).text == ""


@pytest.mark.parametrize("seconds", [0, 30])
def test_makes_nothing_up_from_music(base, seconds):
    pieces = sorted(MUSIC.glob("*.wav"))
    if not pieces:
        pytest.skip("needs Debian's asterisk-moh-opsound-wav")
    for piece in pieces:
        assert base.asr(read(piece)[seconds * RATE : (seconds + 30) * RATE]).text == "", piece.name


def test_another_language_than_the_spoken_one_costs_little_more(base, speech):
    """The decoder gives improbable text, which it tries again at rising temperatures."""

    def seconds(language: str) -> float:
        began = time.perf_counter()
        base.asr(speech, language)
        return time.perf_counter() - began

    seconds("en")
    usual = max(seconds("en") for _ in range(3))
    assert max(seconds(language) for language in ("ka", "ja", "my")) < 8 * usual


@pytest.mark.parametrize("language", ["es", "fr", "it", "ru"])
def test_hears_recorded_prompts(base, language):
    try:
        clips = prompts(PROMPTS, language, 10)
    except ValueError:
        pytest.skip(f"needs Debian's asterisk-core-sounds-{language} and asterisk-core-sounds-{language}-wav")
    heard = [base.asr(audio) for audio, _ in clips]
    assert sum(answer.language == language for answer in heard) >= 0.9 * len(clips)
