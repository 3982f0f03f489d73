"""The speech model serves many at once: batches, short requests beside long ones, clients that leave."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from tests.models.conftest import Models
from tests.models.test_asr import RATE, word_error_rate


@pytest.fixture(scope="module")
def minutes(speech):
    """Three minutes of speech."""
    return np.concatenate([speech, np.zeros(RATE // 2, np.float32)] * 16)


def start(models: Models, audio: np.ndarray, **parameters: Any) -> tuple[Any, threading.Event, list]:
    """Send a request and go on. Returns its call, which can be cancelled, an event and what came back."""
    tensor = tritonclient.grpc.InferInput("audio_input", (1, audio.size), "FP32")
    tensor.set_data_from_numpy(audio[None].astype(np.float32))
    answered, answers = threading.Event(), []

    def take(result: Any, error: Any) -> None:
        answers.append(error or result)
        answered.set()

    call = models.client.async_infer("asr", [tensor], take, **parameters)
    return call, answered, answers


def test_a_short_clip_is_answered_while_a_long_recording_is_decoded(models, speech, minutes):
    _, long_answered, answers = start(models, minutes)
    time.sleep(0.5)
    heard = models.asr(speech[: 4 * RATE])
    assert heard.text
    assert not long_answered.is_set()
    assert long_answered.wait(120)
    assert answers[0].as_numpy("text")[0, 0]


def test_a_client_that_leaves_frees_its_place_within_a_window(models, speech, minutes):
    clip, long = speech[: 4 * RATE], '{"priority": 3}'
    models.asr(clip, options=long)
    began = time.perf_counter()
    for _ in range(3):
        models.asr(clip, options=long)
    alone = (time.perf_counter() - began) / 3
    calls = [start(models, minutes)[0] for _ in range(4)]
    time.sleep(1.0)
    for call in calls:
        call.cancel()
    began = time.perf_counter()
    models.asr(clip, options=long)
    # Two windows in each lane, which are under way, and the clip. While these twelve minutes were decoded, no
    # request of the same priority would be answered: they take as long as some fifty clips.
    assert time.perf_counter() - began < 16 * alone


def test_requests_of_different_lengths_are_handed_over_together(models, speech):
    def executions() -> tuple[int, int]:
        (statistics,) = models.client.get_inference_statistics("asr").model_stats
        return statistics.inference_count, statistics.execution_count

    before = executions()
    lengths = np.linspace(1.5, 4, 16)
    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(lambda s: models.asr(speech[: int(s * RATE)], "en", "{}").text, lengths))
    inferences, runs = (now - then for now, then in zip(executions(), before, strict=True))
    assert all(texts)
    assert inferences == 16
    assert runs <= 12


@pytest.mark.parametrize("priority", [1, 2, 3])
def test_takes_tritons_priorities(models, speech, words, priority):
    _, answered, answers = start(models, speech, priority=priority)
    assert answered.wait(60)
    assert word_error_rate(words, answers[0].as_numpy("text")[0, 0].decode()) == 0


def test_batches_give_each_request_its_own_answer(models, speech, words):
    """Different languages of the vocabulary cannot be mixed up with tiny.en: lengths and options can."""
    requests = [
        (speech, None, words),
        (np.zeros(RATE, np.float32), None, ""),
        (speech, '{"word_timestamps": true}', words),
        (speech, '{"hotwords": ["Americans", "country"]}', words),
        (speech, '{"temperature": 0.2}', words),
    ] * 2
    with ThreadPoolExecutor(len(requests)) as pool:
        heard = list(pool.map(lambda each: models.asr(each[0], options=each[1]), requests))
    for (_, options, expected), answer in zip(requests, heard, strict=True):
        if not expected:
            assert answer.text == ""
            continue
        assert word_error_rate(expected, answer.text) <= 0.1
        assert bool(answer.segments[0]["words"]) == ("word_timestamps" in (options or ""))


def test_a_draft_says_the_same_for_far_less(models, speech, words):
    clip = speech[: 8 * RATE]

    def seconds(options: str) -> float:
        began = time.perf_counter()
        for _ in range(3):
            models.asr(clip, options=options)
        return time.perf_counter() - began

    draft = '{"draft": true, "word_timestamps": true}'
    assert models.asr(clip, options=draft).text == models.asr(clip).text
    assert word_error_rate(words, models.asr(speech, options=draft).text) <= 0.1
    assert seconds(draft) < 0.6 * seconds("{}")
