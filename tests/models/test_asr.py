"""Speech recognition in a real Triton."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import jiwer
import numpy as np
import pytest
import soxr
from tritonclient.utils import InferenceServerException

from tests.models.conftest import languages_of

RATE = 16000
SECONDS = np.arange(10 * RATE) / RATE


def word_error_rate(expected: str, heard: str) -> float:
    def plain(text: str) -> str:
        return " ".join(re.findall(r"[a-z']+", text.lower()))

    return jiwer.wer(plain(expected), plain(heard))


def without_speech() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    white = random.normal(0, 1, SECONDS.size)
    return {
        "digital silence": np.zeros(SECONDS.size),
        "the last bit of 16 flickering": np.round(white * 0.5) / 32768,
        "quiet white noise": white * 0.003,
        "loud white noise": white * 0.3,
        "mains hum with harmonics": sum(0.1 * np.sin(2 * np.pi * 50 * k * SECONDS) for k in (1, 2, 3, 5)),
        "a beep": 0.3 * np.sin(2 * np.pi * 1000 * SECONDS),
        "rumble": np.cumsum(white) * 0.001,
        "clicks": (random.random(SECONDS.size) < 0.0005) * 0.9,
    }


def test_hears_every_word_of_the_recording(models, speech, words):
    heard = models.asr(speech)
    assert word_error_rate(words, heard.text) == 0
    assert heard.language == "en"
    assert 0.7 < heard.confidence <= 1


@pytest.mark.parametrize("rate", [8000, 48000])
def test_hears_it_through_another_sample_rate(models, speech, words, rate):
    there_and_back = soxr.resample(soxr.resample(speech, RATE, rate), rate, RATE)
    assert word_error_rate(words, models.asr(there_and_back).text) <= 0.08


@pytest.mark.parametrize("decibels", [-50, -30, 6])
def test_hears_it_whispering_quiet_and_slightly_clipped(models, speech, words, decibels):
    played = np.clip(speech * 10 ** (decibels / 20), -1, 1)
    assert word_error_rate(words, models.asr(played).text) <= 0.08


def test_hears_it_in_noise_less_confidently(models, speech, words):
    noise = np.random.default_rng(2).normal(0, speech.std() * 10 ** (-10 / 20), speech.size)
    heard = models.asr(speech + noise)
    assert word_error_rate(words, heard.text) <= 0.1
    assert heard.confidence < models.asr(speech).confidence


def test_cuts_nothing_of_two_minutes(models, speech, words):
    times = 11
    pause = np.zeros(RATE // 2, np.float32)
    long = np.concatenate([speech, pause] * times)
    heard = models.asr(long)
    assert word_error_rate(" ".join([words] * times), heard.text) <= 0.08
    assert heard.segments[-1]["end"] == pytest.approx(long.size / RATE, abs=2)


@pytest.mark.parametrize("decibels", [-26, -40])
@pytest.mark.parametrize("calls", [1, 3])
def test_hears_the_quiet_party_of_a_call(models, speech, words, decibels, calls):
    """Two people in turn, the second one far below the first; one window, and several."""
    quiet = speech * 10 ** (decibels / 20)
    heard = models.asr(np.concatenate([speech, quiet] * calls))
    assert word_error_rate(" ".join([words] * 2 * calls), heard.text) <= 0.08


def test_hears_the_quiet_party_in_the_noise_of_the_line(models, speech, words):
    call = np.concatenate([speech, speech * 10 ** (-30 / 20), speech])
    noise = np.random.default_rng(3).normal(0, 10 ** (-72 / 20), call.size)
    assert word_error_rate(" ".join([words] * 3), models.asr(call + noise).text) <= 0.08


def test_makes_nothing_of_the_noise_beside_loud_speech(models, speech, words):
    noise = np.random.default_rng(4).normal(0, 10 ** (-60 / 20), 20 * RATE)
    heard = models.asr(np.concatenate([noise, speech, noise]))
    assert word_error_rate(words, heard.text) == 0


def test_finds_the_words_after_a_minute_of_silence(models, speech, words):
    heard = models.asr(np.concatenate([np.zeros(60 * RATE, np.float32), speech]))
    assert word_error_rate(words, heard.text) <= 0.08
    assert heard.segments[0]["start"] == pytest.approx(60, abs=1)


@pytest.mark.parametrize("sound", without_speech())
def test_makes_nothing_up_where_nobody_speaks(models, sound):
    heard = models.asr(without_speech()[sound])
    assert (heard.text, heard.segments, heard.confidence) == ("", [], 0.0)


@pytest.mark.parametrize("language", ["en", "en-US", "EN", "auto", ""])
def test_takes_the_languages_it_knows(models, speech, language):
    assert models.asr(speech[: 4 * RATE], language).language == "en"


def test_refuses_a_language_that_the_weights_do_not_know(models, speech):
    with pytest.raises(InferenceServerException, match=r"language: .* does not know 'fr', only en"):
        models.asr(speech, "fr")


def test_gives_each_words_time_when_asked(models, speech, words):
    segments = models.asr(speech, options='{"word_timestamps": true}').segments
    timed = [word for segment in segments for word in segment["words"]]
    assert word_error_rate(words, " ".join(word["word"] for word in timed)) == 0
    times = [time for word in timed for time in (word["start"], word["end"])]
    assert times == sorted(times)
    assert times[-1] <= speech.size / RATE
    assert all(0 <= word["probability"] <= 1 for word in timed)


def test_says_which_languages_its_weights_know(models):
    assert languages_of(models) == ["en"]


def test_gives_no_words_when_not_asked(models, speech):
    (segment,) = models.asr(speech).segments
    assert segment["words"] is None
    assert segment.keys() == {"id", "start", "end", "text", "avg_logprob", "no_speech_prob", "words"}


def test_a_prompt_longer_than_whispers_context_is_heeded_at_its_end(models, speech, words):
    heard = models.asr(speech, options='{"prompt": "%s"}' % ("fellow citizens, " * 500))
    assert word_error_rate(words, heard.text) <= 0.1


def test_long_hotwords_leave_room_for_a_prompt(models, speech, words):
    options = {"hotwords": ["Americans"] * 200, "prompt": "fellow citizens, " * 500}
    assert word_error_rate(words, models.asr(speech, options=json.dumps(options)).text) <= 0.2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("{", "options: not JSON"),
        ("[]", "options: expected a JSON object"),
        ('{"beams": 3}', "options.beams: unknown; allowed: word_timestamps, prompt, temperature"),
        ('{"temperature": "hot"}', "options.temperature: 'hot' has the wrong type"),
        ('{"temperature": 7}', "options.temperature: 7 is not between 0 and 1"),
    ],
)
def test_says_which_option_is_wrong(models, speech, options, reason):
    with pytest.raises(InferenceServerException, match=re.escape(reason)):
        models.asr(speech, options=options)


@pytest.mark.parametrize(
    ("audio", "reason"),
    [
        (np.zeros(0, np.float32), "audio_input: no samples"),
        (np.array([0.1, np.nan], np.float32), "audio_input: samples must be finite"),
    ],
)
def test_names_the_mistake_in_the_audio(models, audio, reason):
    with pytest.raises(InferenceServerException, match=reason):
        models.asr(audio)


def test_one_bad_request_does_not_hurt_those_beside_it(models, speech, words):
    def ask(number: int) -> str:
        if number % 2:
            with pytest.raises(InferenceServerException, match="samples must be finite"):
                models.asr(np.full(RATE, np.inf, np.float32))
            return "refused"
        return models.asr(speech).text

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert answers[1::2] == ["refused"] * 4
    assert all(word_error_rate(words, text) == 0 for text in answers[::2])
