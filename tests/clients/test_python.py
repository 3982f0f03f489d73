"""OpenAI's own Python client, on real speech."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator

import numpy as np
import openai
import pytest
import soundfile
import soxr
from openai import AsyncOpenAI, OpenAI

from tests.clients.conftest import RECORDING, Entrance, wrong_words

ITEM = "conversation.item.input_audio_transcription"


@pytest.fixture
def client(node: Entrance) -> Iterator[OpenAI]:
    with OpenAI(base_url=node.base_url, api_key=node.key, max_retries=0, timeout=60) as client:
        yield client


def test_a_recording_in_every_format(client: OpenAI) -> None:
    texts = {
        format: client.audio.transcriptions.create(
            file=RECORDING, model="gpt-transcribe", response_format=format
        )
        for format in ("json", "text", "srt", "vtt", "verbose_json")
    }

    assert wrong_words(texts["json"].text) <= 0.1
    assert (texts["json"].usage.seconds, texts["json"].languages[0].code) == (11.0, "en")
    assert wrong_words(texts["text"]) <= 0.1
    assert wrong_words(re.sub(r"[-\d:,> ]+\n|\n", " ", texts["srt"])) <= 0.1
    assert texts["vtt"].startswith("WEBVTT\n\n00:00:00")
    verbose = texts["verbose_json"]
    assert (verbose.language, verbose.duration, verbose.task) == ("english", 11.0, "transcribe")
    assert verbose.segments[0].avg_logprob < 0


def test_times_of_words(client: OpenAI) -> None:
    found = client.audio.transcriptions.create(
        file=RECORDING, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
    )
    times = [moment for word in found.words for moment in (word.start, word.end)]
    assert times == sorted(times)
    assert wrong_words(" ".join(word.word for word in found.words)) <= 0.1


def test_a_recording_as_a_stream_of_events(client: OpenAI) -> None:
    *deltas, done = client.audio.transcriptions.create(
        file=RECORDING, model="gpt-4o-transcribe", keywords=["Americans"], stream=True
    )
    assert "".join(event.delta for event in deltas) == done.text
    assert wrong_words(done.text) <= 0.1
    assert done.usage.seconds == 11.0


def test_an_english_only_model_does_not_translate(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="English only") as refused:
        client.audio.translations.create(file=RECORDING, model="whisper-1")
    assert refused.value.param == "model"


async def test_speech_in_real_time(node: Entrance) -> None:
    """Paced as it is spoken: the first words are there before the last ones are said."""
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    speech = np.concatenate([soxr.resample(samples, rate, 24000), np.zeros(2 * 24000)])
    audio = (np.clip(speech, -1, 1) * 32767).astype("<i2").tobytes()
    sent = 0

    async def send() -> None:
        nonlocal sent
        begun = asyncio.get_running_loop().time()
        for at in range(0, len(audio), 4800):
            await asyncio.sleep(begun + at / 48000 - asyncio.get_running_loop().time())
            await connection.input_audio_buffer.append(audio=base64.b64encode(audio[at : at + 4800]).decode())
            sent = at

    early, deltas, kinds = 0, "", []
    async with (
        AsyncOpenAI(base_url=node.base_url, api_key=node.key) as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        turns = {"type": "server_vad", "silence_duration_ms": 1500}
        await connection.session.update(
            session={"type": "transcription", "audio": {"input": {"turn_detection": turns}}}
        )
        sending = asyncio.create_task(send())
        async for event in connection:
            assert event.type != "error", event
            kinds.append(event.type.rpartition(".")[2])
            if event.type == f"{ITEM}.delta":
                deltas += event.delta
                early += sent < 11 * 48000
            elif event.type == f"{ITEM}.completed":
                break
        sending.cancel()

    assert wrong_words(event.transcript) <= 0.1
    assert wrong_words(deltas) <= 0.4  # told from drafts; the transcript is what counts
    assert early >= 1
    assert list(dict.fromkeys(kinds)) == [
        "created", "updated", "speech_started", "delta", "speech_stopped", "committed", "added", "done",
        "completed",
    ]  # fmt: skip
