"""The gRPC API as its clients see it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from inference_service import intake
from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import Busy, NotReady, RuntimeTimeout, ServiceError
from inference_service.grpc_api import generate, server
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from inference_service.runtimes.base import Call
from inference_service.settings import Settings
from inference_service.tasks import Task
from tests.ports import free_port
from tests.service.conftest import DoubleRuntime
from tests.service.streams import pieces, tone

Start = Callable[..., Awaitable["Node"]]


class Node:
    """A gRPC server over a double runtime, and a client of it."""

    def __init__(self, engine: Engine, channel: grpc.aio.Channel) -> None:
        self.engine = engine
        self.runtime: DoubleRuntime = engine.runtime  # type: ignore[assignment]
        self.channel = channel
        self.stub = AIServiceStub(channel)

    async def process(self, **fields: Any) -> pb.ProcessAudioDataResponse:
        """ProcessAudioData; a second of 16 kHz PCM unless `fields` replace it."""
        defaults = {"audio_data": tone(1.0), "format": "pcm", "sample_rate": 16000}
        return await self.stub.ProcessAudioData(pb.ProcessAudioDataRequest(**{**defaults, **fields}))

    async def stream(self, chunks: list[pb.AudioChunk], **call: Any) -> list[pb.AIStreamResult]:
        """The results of StreamAudioProcessing."""
        return [result async for result in self.stub.StreamAudioProcessing(iter(chunks), **call)]


@pytest.fixture
async def start(settings: Callable[..., Settings]) -> AsyncIterator[Start]:
    """`await start(SERVER__API_KEYS="k", …)`: a node with those settings."""
    async with AsyncExitStack() as stack:

        async def start(**environment: str) -> Node:
            port = free_port()
            made = settings(SERVER__HOST="127.0.0.1", SERVER__GRPC_PORT=str(port), **environment)
            engine = Engine(made, DoubleRuntime())
            stack.push_async_callback(engine.close)
            await stack.enter_async_context(server.serve(engine))
            channel = grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)]
            )
            await stack.enter_async_context(channel)
            return Node(engine, channel)

        yield start


@contextlib.asynccontextmanager
async def refused(code: grpc.StatusCode, reason: str) -> AsyncIterator[None]:
    """Expects a call in the block to end with this status, and `reason` in its details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert (caught.value.code(), reason in caught.value.details()) == (code, True), caught.value


def spoken(seconds: float, **fields: Any) -> list[pb.AudioChunk]:
    """48 kHz PCM in chunks of 100 ms; the last chunk is final."""
    parts = pieces(tone(seconds, 48000), 9600)
    last = len(parts)
    return [
        pb.AudioChunk(data=part, sequence=number, is_final=number == last, **fields)
        for number, part in enumerate(parts, 1)
    ]


# The contract ------------------------------------------------------------------------------------------

CONTRACT: dict[str, list[tuple[str, int]]] = {
    "ProcessAudioDataRequest": [
        ("audio_data", 1), ("format", 2), ("sample_rate", 3), ("channels", 4), ("room_id", 5),
        ("user_id", 6), ("tasks", 7), ("duration", 8),
    ],
    "ProcessAudioDataResponse": [("task_id", 1), ("status", 2), ("error", 3), ("results", 4)],
    "ProcessVideoFrameResponse": [("task_id", 1), ("status", 2), ("error", 3), ("results", 4)],
    "AIResult": [("result_type", 1), ("result_data", 2), ("confidence", 3), ("created_at", 4)],
    "AudioChunk": [
        ("data", 1), ("sequence", 2), ("stream_id", 3), ("user_id", 4), ("room_id", 5), ("format", 6),
        ("sample_rate", 7), ("channels", 8), ("tasks", 9), ("is_final", 10),
    ],
    "AIStreamResult": [
        ("stream_id", 1), ("sequence", 2), ("result_type", 3), ("result_data", 4), ("confidence", 5),
        ("is_final", 6), ("timestamp", 7),
    ],
    "ProcessVideoFrameRequest": [
        ("frame_data", 1), ("format", 2), ("width", 3), ("height", 4), ("room_id", 5), ("user_id", 6),
        ("tasks", 7), ("fps", 8),
    ],
    "VideoChunk": [
        ("data", 1), ("sequence", 2), ("stream_id", 3), ("user_id", 4), ("room_id", 5), ("format", 6),
        ("width", 7), ("height", 8), ("fps", 9), ("tasks", 10), ("is_final", 11),
    ],
    "GetAIAnalysisRequest": [("task_id", 1)],
    "GetAIAnalysisResponse": [
        ("task_id", 1), ("status", 2), ("result_type", 3), ("result_data", 4), ("confidence", 5),
        ("created_at", 6),
    ],
    "NotifyAIResultRequest": [
        ("room_id", 1), ("user_id", 2), ("result_type", 3), ("result_data", 4), ("confidence", 5),
    ],
}  # fmt: skip


def test_the_messages_have_the_contracts_field_numbers() -> None:
    described = {
        name: [(field.name, field.number) for field in message.fields]
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    assert described == CONTRACT
    assert server.SERVICE == "grpc.AIService"


def test_the_generated_code_is_fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert generate.stale(generate.generate()) == []
    monkeypatch.setattr(generate, "_GENERATED", tmp_path)
    (tmp_path / "left_over_pb2.py").write_text("")
    assert "left_over_pb2.py" in generate.stale(generate.generate())


async def test_a_client_that_was_generated_elsewhere_is_understood(start: Start) -> None:
    node = await start()
    # A descriptor from the original service's own generator: the same package and field numbers.
    file = descriptor_pb2.FileDescriptorProto(name="elsewhere/ai.proto", package="grpc", syntax="proto3")
    kinds = {"data": 12, "stream_id": 9, "sequence": 5, "sample_rate": 5, "tasks": 9, "is_final": 8,
             "result_type": 9, "result_data": 9, "confidence": 1}  # fmt: skip
    for message in ("AudioChunk", "AIStreamResult"):
        made = file.message_type.add(name=message)
        for name, number in CONTRACT[message]:
            if name in kinds:
                label = 3 if name == "tasks" else 1
                made.field.add(name=name, number=number, type=kinds[name], label=label)
    pool = descriptor_pool.DescriptorPool()
    classes = message_factory.GetMessages([file], pool=pool)
    chunk, result = classes["grpc.AudioChunk"], classes["grpc.AIStreamResult"]
    method = node.channel.stream_stream(
        "/grpc.AIService/StreamAudioProcessing", chunk.SerializeToString, result.FromString
    )

    sent = [
        chunk(data=part, sequence=number, stream_id="s", sample_rate=48000, tasks=["asr"])
        for number, part in enumerate(pieces(tone(1.0, 48000), 9600), 1)
    ]
    [answer] = [answer async for answer in method(iter(sent))]

    assert (answer.stream_id, answer.sequence, answer.is_final) == ("s", 10, True)
    assert answer.result_type == "speech_recognition"
    assert json.loads(answer.result_data)["duration_ms"] == 1000


# ProcessAudioData ------------------------------------------------------------------------------------------


async def test_audio_is_transcribed_when_no_task_is_asked_for(start: Start) -> None:
    node = await start()

    answer = await node.process()

    assert (answer.status, answer.error) == ("ok", "")
    [(name, result)] = answer.results.items()
    assert name == result.result_type == "speech_recognition"
    assert json.loads(result.result_data) == {
        "text": "16000 samples at 16000 Hz", "confidence": 0.9, "language": "en", "duration_ms": 1000,
    }  # fmt: skip
    assert result.confidence == 0.9
    assert result.created_at.seconds > 0


async def test_results_are_keyed_by_the_tasks_as_asked(start: Start) -> None:
    node = await start()

    answer = await node.process(tasks=["asr", "emotion_detection", "speech_recognition"])

    assert {name: result.result_type for name, result in answer.results.items()} == {
        "asr": "speech_recognition",
        "emotion_detection": "emotion_detection",
        "speech_recognition": "speech_recognition",
    }
    assert len(node.runtime.audios) == 2  # speech recognition ran once


async def test_a_wav_needs_no_rate(start: Start) -> None:
    import io

    import numpy as np
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.zeros(8000), 8000, format="WAV")
    node = await start()

    answer = await node.process(audio_data=file.getvalue(), format="", sample_rate=0)

    assert json.loads(answer.results["speech_recognition"].result_data)["duration_ms"] == 1000


async def test_a_task_that_fails_leaves_the_others_their_results(start: Start) -> None:
    node = await start()
    node.runtime.capabilities = frozenset({Task.ASR})

    answer = await node.process(tasks=["asr", "emotion"])

    assert (answer.status, list(answer.results)) == ("partial", ["asr"])
    assert "emotion_detection: the triton runtime cannot do" in answer.error


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"audio_data": b""}, "audio is empty"),
        ({"audio_data": b"x" * 31999}, "not a whole number of 2-byte frames"),
        ({"sample_rate": 5}, "sample_rate: 5 is not allowed"),
        ({"sample_rate": -16000}, "sample_rate: -16000"),
        ({"channels": 2000}, "channels: 2000"),
        ({"format": "qoa"}, 'format: "qoa" is not known'),
        ({"format": "wav"}, "it was sent as wav, but it does not begin as WAV does"),
        ({"tasks": ["karaoke"]}, 'tasks: "karaoke" is not a task; allowed are'),
    ],
)
async def test_bad_audio_is_an_invalid_argument(start: Start, fields: dict[str, Any], reason: str) -> None:
    node = await start()
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, reason):
        await node.process(**fields)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Busy("the node is full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (NotReady("Triton cannot be reached"), grpc.StatusCode.UNAVAILABLE),
        (RuntimeTimeout("too slow"), grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
async def test_a_runtime_that_cannot_answer_gives_the_status_that_says_why(
    start: Start, error: ServiceError, code: grpc.StatusCode
) -> None:
    node = await start()
    node.runtime.error = error
    async with refused(code, str(error)):
        await node.process(tasks=["asr", "emotion"])


async def test_a_message_over_the_limit_is_refused_and_the_server_goes_on(start: Start) -> None:
    node = await start(AI__REQUEST__MAX_BODY_BYTES="1000000")
    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"):
        await node.process(audio_data=bytes(2_000_000))
    assert (await node.process()).status == "ok"


async def test_a_cancelled_call_cancels_its_inference(start: Start) -> None:
    node = await start()
    node.runtime.delay = 3600
    call = node.stub.ProcessAudioData(pb.ProcessAudioDataRequest(audio_data=tone(1.0), format="pcm"))
    await wait_until(lambda: node.runtime.running == 1)
    call.cancel()
    await wait_until(lambda: node.runtime.cancelled == 1)
    assert node.engine.admission.running == 0


# GetAIAnalysis, NotifyAIResult, video ----------------------------------------------------------------------


async def test_an_analysis_is_found_by_its_task_id(start: Start) -> None:
    node = await start()
    answer = await node.process(tasks=["emotion"])

    found = await node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id=answer.task_id))

    result = answer.results["emotion"]
    assert (found.task_id, found.status) == (answer.task_id, "ok")
    assert (found.result_type, found.result_data) == ("emotion_detection", result.result_data)
    assert (found.confidence, found.created_at) == (result.confidence, result.created_at)


async def test_an_analysis_of_several_tasks_has_them_all(start: Start) -> None:
    node = await start()
    answer = await node.process(tasks=["asr", "emotion"])

    found = await node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id=answer.task_id))

    assert found.result_type == "speech_recognition,emotion_detection"
    assert json.loads(found.result_data)["emotion_detection"]["emotion"] == "neutral"
    assert found.confidence == 0.75


async def test_an_unknown_task_id_is_not_found(start: Start) -> None:
    node = await start()
    async with refused(grpc.StatusCode.NOT_FOUND, "no result is stored under 'nobody'"):
        await node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id="nobody"))
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, "task_id: is required"):
        await node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest())


async def test_a_notified_result_is_kept_by_room_user_and_type(start: Start) -> None:
    node = await start()
    notified = pb.NotifyAIResultRequest(
        room_id="r1", user_id=7, result_type="asr", result_data='{"text": "hello"}', confidence=0.5
    )
    await node.stub.NotifyAIResult(notified)

    found = await node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id="r1/7/speech_recognition"))
    assert (found.result_data, found.confidence) == ('{"text": "hello"}', 0.5)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"result_type": "karaoke"}, "result_type"),
        ({"result_data": "{"}, "result_data: is not JSON"),
        ({"confidence": 1.5}, "confidence: 1.5"),
    ],
)
async def test_a_notified_result_must_make_sense(start: Start, fields: dict[str, Any], reason: str) -> None:
    node = await start()
    good = {"room_id": "r", "result_type": "asr", "result_data": "{}", "confidence": 1.0}
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, reason):
        await node.stub.NotifyAIResult(pb.NotifyAIResultRequest(**{**good, **fields}))


async def test_video_is_unimplemented(start: Start) -> None:
    node = await start()
    async with refused(grpc.StatusCode.UNIMPLEMENTED, "video"):
        await node.stub.ProcessVideoFrame(pb.ProcessVideoFrameRequest(frame_data=b"x"))
    async with refused(grpc.StatusCode.UNIMPLEMENTED, "video"):
        await node.stub.StreamVideoProcessing(iter([pb.VideoChunk(data=b"x")])).read()


# StreamAudioProcessing -------------------------------------------------------------------------------------


async def test_a_stream_is_answered_flush_by_flush(start: Start) -> None:
    node = await start()

    results = await node.stream(spoken(25.0, stream_id="live", tasks=["asr", "emotion"]))

    assert {result.stream_id for result in results} == {"live"}
    asked = ["speech_recognition", "emotion_detection"]
    assert [result.result_type for result in results] == asked * (len(results) // 2)
    assert all(result.is_final for result in results)
    data = [json.loads(result.result_data) for result in results]
    assert sum(item["duration_ms"] for item in data[::2]) == pytest.approx(25_000, abs=len(data))
    assert results[-1].sequence == 250


async def test_metadata_says_the_language_and_the_flush_interval(start: Start) -> None:
    node = await start()
    call = node.stub.StreamAudioProcessing(metadata=(("language", "de-DE"), ("flush-interval-ms", "100")))
    await call.write(pb.AudioChunk(data=tone(1.0, 48000), sequence=3))

    partial = await call.read()

    assert (partial.is_final, partial.sequence) == (False, 3)
    assert json.loads(partial.result_data)["language"] == "de"
    await call.done_writing()
    assert (await call.read()).is_final
    assert await call.read() == grpc.aio.EOF


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (("flush-interval-ms", "soon"), "flush-interval-ms: expected a whole number"),
        (("flush-interval-ms", "7"), "flush_interval_ms: 7 is not allowed"),
        (("language", "??"), "language: expected a language tag"),
    ],
)
async def test_metadata_that_makes_no_sense_is_an_invalid_argument(
    start: Start, metadata: tuple[str, str], reason: str
) -> None:
    node = await start()
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, reason):
        await node.stream([], metadata=(metadata,))


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([pb.AudioChunk(data=b"abc", is_final=True)], "middle of a frame"),
        ([pb.AudioChunk(data=b"abc")], "middle of a frame"),
        ([pb.AudioChunk(data=b"ab", sample_rate=1)], "sample_rate: 1"),
        ([pb.AudioChunk(data=b"ab", channels=-1)], "channels: -1"),
        ([pb.AudioChunk(data=b"ab", format="caf")], "cannot be streamed"),
        ([pb.AudioChunk(data=b"ab", tasks=["karaoke"])], "karaoke"),
    ],
)
async def test_bad_chunks_are_an_invalid_argument(
    start: Start, chunks: list[pb.AudioChunk], reason: str
) -> None:
    node = await start()
    async with refused(grpc.StatusCode.INVALID_ARGUMENT, reason):
        await node.stream(chunks)
    assert len(await node.stream(spoken(1.0))) == 1


async def test_a_chunk_of_twenty_megabytes_is_one_chunk_like_others(start: Start) -> None:
    node = await start()
    data = tone(20_000_000 / 96_000, 48000)

    results = await node.stream([pb.AudioChunk(data=data, is_final=True)])

    found = sum(json.loads(result.result_data)["duration_ms"] for result in results)
    assert found == pytest.approx(1000 * len(data) / 96_000, abs=len(results))


async def test_a_client_that_vanishes_leaves_nothing_behind(start: Start) -> None:
    node = await start()
    node.runtime.delay = 3600
    call = node.stub.StreamAudioProcessing()
    await call.write(pb.AudioChunk(data=tone(11.0, 48000)))
    await wait_until(lambda: node.runtime.running == 1)
    call.cancel()
    await wait_until(lambda: node.runtime.cancelled == 1 and node.engine.streams.open == 0)


async def test_a_full_node_takes_no_more_streams(start: Start) -> None:
    node = await start(SERVER__MAX_STREAMS="1")
    open_call = node.stub.StreamAudioProcessing()
    await open_call.write(pb.AudioChunk(sequence=1))
    await wait_until(lambda: node.engine.streams.open == 1)
    # Over another connection: on the same one HTTP/2's limit of streams would apply first.
    address = f"127.0.0.1:{node.engine.settings.server.grpc_port}"
    async with (
        refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "1 audio streams are open"),
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as other,
    ):
        await AIServiceStub(other).StreamAudioProcessing(iter([])).read()
    open_call.cancel()


async def test_a_draining_node_finishes_what_runs_and_ends_the_rest_as_unavailable(start: Start) -> None:
    node = await start(SERVER__SHUTDOWN_GRACE="8s")
    live, short = node.stub.StreamAudioProcessing(), node.stub.StreamAudioProcessing()
    for call in (live, short):
        await call.write(pb.AudioChunk(data=tone(1.0, 48000), sequence=1))
    await wait_until(lambda: node.engine.streams.open == 2)
    node.engine.drain()
    await asyncio.sleep(0.1)

    await short.write(pb.AudioChunk(data=tone(1.0, 48000), sequence=2))
    await short.done_writing()
    assert json.loads((await short.read()).result_data)["duration_ms"] == 2000
    assert await short.code() == grpc.StatusCode.OK

    # The node answers the sent audio, and then ends the stream.
    assert json.loads((await live.read()).result_data)["duration_ms"] == 1000
    assert await live.code() == grpc.StatusCode.UNAVAILABLE
    assert "open the stream again" in await live.details()
    async with refused(grpc.StatusCode.UNAVAILABLE, ""):
        await node.process()


# Keys, health, reflection ----------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [(), (("x-api-key", "wrong"),), (("authorization", "Basic secret"),)])
async def test_without_an_accepted_key_nothing_is_answered(start: Start, metadata: Any) -> None:
    node = await start(SERVER__API_KEYS="secret,other")
    async with refused(grpc.StatusCode.UNAUTHENTICATED, "API key"):
        await node.stream([], metadata=metadata)
    async with refused(grpc.StatusCode.UNAUTHENTICATED, "API key"):
        await node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id="x"), metadata=metadata)


@pytest.mark.parametrize("metadata", [("x-api-key", "other"), ("authorization", "Bearer secret")])
async def test_a_key_is_metadata(start: Start, metadata: tuple[str, str]) -> None:
    node = await start(SERVER__API_KEYS="secret,other")
    assert len(await node.stream(spoken(1.0), metadata=(metadata,))) == 1


@pytest.mark.parametrize(
    "method",
    [
        "grpc.AIService/ProcessAudioData",
        "grpc.AIService/StreamAudioProcessing",
        "grpc.AIService/NotifyAIResult",
        "grpc.AIService/NoSuchMethod",
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_a_wrong_key_is_refused_before_its_message_is_read(start: Start, method: str) -> None:
    node = await start(SERVER__API_KEYS="secret")
    reader, writer = await begin_call(node, method, {"x-api-key": "wrong"})
    # The call ends although its message has only begun.
    await ended(reader)
    writer.close()


async def test_health_needs_no_key_and_reads_no_endless_message(start: Start) -> None:
    node = await start(SERVER__API_KEYS="secret")
    for method in ("Check", "Watch"):
        reader, writer = await begin_call(node, f"grpc.health.v1.Health/{method}", {})
        await ended(reader)
        writer.close()


async def test_a_call_whose_message_takes_long_is_counted_as_the_largest_one(start: Start) -> None:
    node = await start()
    uploads = [await begin_call(node, "grpc.AIService/ProcessAudioData", {}) for _ in range(4)]
    await wait_until(lambda: node.engine.budget.held >= 4 * 100_000_000)
    # Others get their answers meanwhile.
    assert (await node.process()).status == "ok"
    for _, writer in uploads:
        writer.close()
    await wait_until(lambda: node.engine.budget.held == 0)


async def test_what_a_stream_holds_is_counted_until_it_ends(start: Start) -> None:
    node = await start()
    call = node.stub.StreamAudioProcessing()
    await call.write(pb.AudioChunk(data=tone(5.0, 48000), sequence=1))
    await wait_until(lambda: node.engine.budget.held >= 4 * 16000 * 4)
    await call.done_writing()
    assert (await call.read()).is_final
    assert await call.code() == grpc.StatusCode.OK
    await wait_until(lambda: node.engine.budget.held == 0)

    others = node.engine.budget.stream()
    others.take(node.engine.budget.limit)
    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "bytes of audio and requests are held"):
        # grpc.aio says INTERNAL if it writes a second chunk while the first one is being refused.
        await node.stream(spoken(1.0)[:1])
    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "bytes of audio and requests are held"):
        await node.process()
    others.close()
    assert len(await node.stream(spoken(1.0))) == 1


async def test_a_place_is_taken_before_the_audio_is_decoded(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await start(SERVER__MAX_CONCURRENCY="1", SERVER__MAX_QUEUE="1")
    decoding = asyncio.Event()

    async def slow(*_: Any) -> Audio:
        """Stands for a recording that takes long to decode."""
        await decoding.wait()
        return Audio(np.zeros(16000, np.float32), 16000)

    monkeypatch.setattr(intake, "decode_beside_the_loop", slow)
    two = [asyncio.ensure_future(node.process()) for _ in range(2)]
    await wait_until(lambda: node.engine.admission._decoding == 2)
    async with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "the node is full"):
        await node.process()
    decoding.set()
    assert [answer.status for answer in await asyncio.gather(*two)] == ["ok", "ok"]


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2 (RFC 9113, section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4


async def begin_call(
    node: Node, method: str, metadata: dict[str, str]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Sends the first bytes of a message of 90 MB, in HTTP/2 frames: gRPC's own client sends all of it."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{method}",
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
        **metadata,
    }
    # HPACK's literal fields without indexing; none is longer than 126 bytes.
    head = b"".join(
        bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
    message = b"\0" + (90_000_000).to_bytes(4, "big") + bytes(1000)
    reader, writer = await asyncio.open_connection("127.0.0.1", node.engine.settings.server.grpc_port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + http2_frame(SETTINGS, 0, 0, b""))
    writer.write(http2_frame(HEADERS, END_HEADERS, 1, head) + http2_frame(DATA, 0, 1, message))
    await writer.drain()
    return reader, writer


async def ended(reader: asyncio.StreamReader) -> None:
    """Waits until the server has ended stream 1."""
    async with asyncio.timeout(60):
        while True:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if stream == 1 and (kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM)):
                return


async def test_the_request_id_comes_back(start: Start) -> None:
    node = await start()
    call = node.stub.ProcessAudioData(
        pb.ProcessAudioDataRequest(audio_data=tone(1.0), format="pcm", room_id="r"),
        metadata=(("x-request-id", "mine-1"),),
    )
    assert ("x-request-id", "mine-1") in tuple(await call.initial_metadata())
    await call
    assert node.runtime.calls[-1] == Call("mine-1", "r", timeout=None)

    refusal = node.stub.GetAIAnalysis(pb.GetAIAnalysisRequest(), metadata=(("x-request-id", "mine-2"),))
    assert ("x-request-id", "mine-2") in tuple(await refusal.trailing_metadata())


async def test_a_stream_begins_before_its_client_has_sent_anything(start: Start) -> None:
    node = await start()
    call = node.stub.StreamAudioProcessing(metadata=(("x-request-id", "mine"),))
    # Some clients wait for this before they let their caller send.
    assert ("x-request-id", "mine") in tuple(await call.initial_metadata())

    await call.write(pb.AudioChunk(data=tone(1.0, 48000), sequence=1, is_final=True))
    await call.done_writing()
    assert (await call.read()).sequence == 1
    assert await call.code() == grpc.StatusCode.OK


async def test_a_refused_stream_does_not_begin(start: Start) -> None:
    node = await start(SERVER__API_KEYS="secret")
    call = node.stub.StreamAudioProcessing(metadata=(("x-request-id", "mine"),))
    assert await call.code() == grpc.StatusCode.UNAUTHENTICATED
    assert tuple(await call.initial_metadata()) == ()
    assert ("x-request-id", "mine") in tuple(await call.trailing_metadata())


async def test_health_says_whether_the_models_can_answer(start: Start) -> None:
    node = await start(SERVER__API_KEYS="secret")
    health = health_pb2_grpc.HealthStub(node.channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service="grpc.AIService"))

    for service in ("", "grpc.AIService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    async with refused(grpc.StatusCode.NOT_FOUND, "other.Service"):
        await health.Check(health_pb2.HealthCheckRequest(service="other.Service"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING

    node.engine.drain()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert await watch.read() == grpc.aio.EOF


async def test_health_follows_the_runtime(start: Start) -> None:
    node = await start()
    node.runtime.problems = ["model asr is not loaded"]
    answer = await health_pb2_grpc.HealthStub(node.channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_reflection_describes_the_service(start: Start) -> None:
    node = await start(SERVER__API_KEYS="secret")
    reflection = reflection_pb2_grpc.ServerReflectionStub(node.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.AIService"),
    ]

    async with refused(grpc.StatusCode.UNAUTHENTICATED, "API key"):
        await reflection.ServerReflectionInfo(iter(())).read()
    key = (("x-api-key", "secret"),)
    listed, described = [
        answer async for answer in reflection.ServerReflectionInfo(iter(asked), metadata=key)
    ]

    names = {service.name for service in listed.list_services_response.service}
    assert {"grpc.AIService", "grpc.health.v1.Health"} <= names
    file = descriptor_pb2.FileDescriptorProto.FromString(
        described.file_descriptor_response.file_descriptor_proto[0]
    )
    assert [method.name for method in file.service[0].method] == [
        "ProcessAudioData", "ProcessVideoFrame", "StreamAudioProcessing", "StreamVideoProcessing",
        "GetAIAnalysis", "NotifyAIResult",
    ]  # fmt: skip


async def test_a_port_that_is_taken_is_reported(settings: Callable[..., Settings]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        made = settings(SERVER__HOST="127.0.0.1", SERVER__GRPC_PORT=str(taken.getsockname()[1]))
        engine = Engine(made, DoubleRuntime())
        with pytest.raises(OSError, match=r"server\.grpc_port: cannot listen on 127\.0\.0\.1"):
            async with server.serve(engine):
                pass
        await engine.close()


async def wait_until(condition: Callable[[], bool]) -> None:
    """Waits at most 5 s for an action of the server."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.01)
