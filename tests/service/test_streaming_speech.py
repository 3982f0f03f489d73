"""Real speech through a real model: a stream has the text of the whole file, and subtitles match the
words."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import grpc
import jiwer
import numpy as np
import pytest
import soundfile
import soxr

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.grpc_api import server
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from inference_service.runtimes import build_runtime
from inference_service.runtimes.base import Call
from inference_service.settings import load
from inference_service.tasks import TranscribeOptions
from inference_service.word_times import on_the_sound
from tests.ports import free_port
from tests.service.streams import pieces
from tests.triton_server import ROOT, TritonPorts, triton_server

RECORDING = ROOT / "recordings" / "inaugural-1961.flac"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonPorts]:
    folder = tmp_path_factory.mktemp("triton")
    # The moments below were heard by ear; those of tiny.en are nearer to them than those of base.
    with triton_server(folder, models=["asr"], environment={"ASR_MODEL_PATH": "tiny.en"}) as ports:
        yield ports


@pytest.fixture
async def node(triton: TritonPorts, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    """A node with the real speech model, its gRPC server running."""
    environment = {
        "AI__RUNTIME__TRITON__ENDPOINT": f"127.0.0.1:{triton.grpc}",
        "AI__MODELS__EMOTION__ENABLED": "false",
        "AI__MODELS__SYNTHESIS__ENABLED": "false",
        "SERVER__HOST": "127.0.0.1",
        "SERVER__GRPC_PORT": str(free_port()),
        "SERVER__WORKERS": "1",
        "SERVER__RUNTIME_DIR": str(tmp_path_factory.mktemp("run")),
    }
    settings, _ = load(None, environment)
    async with AsyncExitStack() as stack:
        engine = Engine(settings, build_runtime(settings))
        await engine.start()
        stack.push_async_callback(engine.close)
        await stack.enter_async_context(server.serve(engine))
        yield engine


def spoken(repetitions: int) -> bytes:
    """The recording, repeated, as 48 kHz PCM."""
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    resampled = soxr.resample(np.tile(samples, repetitions), rate, 48000)
    return (np.clip(resampled, -1, 1) * 32767).astype("<i2").tobytes()


def words(text: str) -> str:
    """The words alone, without case and punctuation."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


async def test_the_joined_text_of_a_stream_is_that_of_the_whole_file(node: Engine) -> None:
    audio = spoken(4)
    address = f"127.0.0.1:{node.settings.server.grpc_port}"
    unlimited = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=unlimited) as channel:
        stub = AIServiceStub(channel)
        whole = await stub.ProcessAudioData(
            pb.ProcessAudioDataRequest(audio_data=audio, format="pcm", sample_rate=48000)
        )
        parts = pieces(audio, 9600)
        chunks = [
            pb.AudioChunk(data=part, sequence=number, is_final=number == len(parts))
            for number, part in enumerate(parts, 1)
        ]
        results = [result async for result in stub.StreamAudioProcessing(iter(chunks))]

    found = [json.loads(result.result_data) for result in results]
    expected = json.loads(whole.results["speech_recognition"].result_data)["text"]
    assert sum(part["duration_ms"] for part in found) == pytest.approx(44_000, abs=len(found))
    assert jiwer.wer(words(expected), words(" ".join(part["text"] for part in found))) <= 0.05


async def test_words_are_where_they_are_heard(node: Engine) -> None:
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    audio = Audio(samples, rate)

    found = await node.transcribe(audio, TranscribeOptions(word_timestamps=True), Call("test"))

    heard_words = [
        word for segment in on_the_sound(found.segments, samples, rate) for word in segment.words or []
    ]
    starts = {words(word.word): word.start for word in reversed(heard_words)}
    # Heard by ear: “And so, my fellow Americans … ask not … what your country can do for you …”
    for word, second in {"so": 0.75, "americans": 1.7, "ask": 3.3, "not": 4.0, "what": 5.4}.items():
        assert starts[word] == pytest.approx(second, abs=0.2)
