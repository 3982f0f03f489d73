"""All gRPC calls have answers of the same shape on an Edge-LLM node and on a Triton node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from inference_service.engine import Engine
from inference_service.grpc_api import server
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from inference_service.runtimes.edge_llm import EdgeLlmRuntime, pool
from inference_service.tasks import Task
from tests.doubles.unit_manager import UnitManager
from tests.ports import free_port
from tests.service.conftest import DoubleRuntime
from tests.service.streams import pieces, tone
from tests.service.test_edge_llm_http import node, recording, shape

TASKS = [*Task]
CALLS = (
    "one task",
    "all tasks",
    "tasks by their short names",
    "analysis",
    "unknown analysis",
    "stream",
    "stream with partial results",
    "bad audio",
    "video frame",
    "video stream",
)


def seen(message: Message) -> object:
    """The shape of a message, with the JSON inside its `result_data`."""
    fields = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )

    def opened(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: json.loads(inner) if key == "result_data" and inner else opened(inner)
                for key, inner in value.items()
            }
        return value

    return shape(opened(fields))


def chunks(seconds: float, *tasks: str) -> Iterator[pb.AudioChunk]:
    """48 kHz PCM in chunks of 100 ms; the last chunk is final."""
    parts = pieces(tone(seconds, 48000), 9600)
    for sequence, part in enumerate(parts, 1):
        yield pb.AudioChunk(
            data=part, sequence=sequence, tasks=tasks, room_id="m", is_final=sequence == len(parts)
        )


async def live(call: Any) -> list[object]:
    """A partial result and the final one that replaces it."""
    await call.write(pb.AudioChunk(data=tone(1.0, 48000), sequence=1))
    partial = await call.read()
    await call.done_writing()
    final = await call.read()
    assert (partial.is_final, final.is_final) == (False, True)
    return [seen(partial), seen(final)]


async def answers(engine: Engine) -> dict[str, object]:
    """The outcome of every call: the shape of its answer, or its status code."""
    await engine.start()
    address = f"127.0.0.1:{engine.settings.server.grpc_port}"
    try:
        async with server.serve(engine), grpc.aio.insecure_channel(address) as channel:
            stub = AIServiceStub(channel)

            async def process(*tasks: str, audio: bytes = recording()) -> pb.ProcessAudioDataResponse:
                request = pb.ProcessAudioDataRequest(audio_data=audio, room_id="m", tasks=tasks)
                return await stub.ProcessAudioData(request)

            async def found() -> object:
                task_id = (await process()).task_id
                return seen(await stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id=task_id)))

            async def shown(call: Any) -> object:
                return seen(await call)

            async def streamed(call: Any) -> list[object]:
                return [seen(result) async for result in call]

            calls = {
                "one task": lambda: shown(process()),
                "all tasks": lambda: shown(process(*TASKS)),
                "tasks by their short names": lambda: shown(process("asr", "emotion", "synthesis")),
                "analysis": found,
                "unknown analysis": lambda: shown(
                    stub.GetAIAnalysis(pb.GetAIAnalysisRequest(task_id="none"))
                ),
                "stream": lambda: streamed(stub.StreamAudioProcessing(chunks(0.3, *TASKS))),
                "stream with partial results": lambda: live(
                    stub.StreamAudioProcessing(metadata=(("flush-interval-ms", "100"),))
                ),
                "bad audio": lambda: shown(process(audio=b"RIFF")),
                "video frame": lambda: shown(stub.ProcessVideoFrame(pb.ProcessVideoFrameRequest())),
                "video stream": lambda: streamed(stub.StreamVideoProcessing(iter([pb.VideoChunk()]))),
            }
            outcomes = {}
            for name, call in calls.items():
                try:
                    outcomes[name] = await call()
                except grpc.aio.AioRpcError as error:
                    outcomes[name] = error.code()
            return outcomes
    finally:
        await engine.close()


async def edge_llm_answers(directory: Path, **environment: str) -> dict[str, object]:
    async with UnitManager() as manager:
        engine = node(
            directory,
            EdgeLlmRuntime,
            AI__RUNTIME__BACKEND="edge-llm",
            AI__RUNTIME__EDGE_LLM__ENDPOINT=f"127.0.0.1:{manager.port}",
            AI__REQUEST__AUDIO_STREAM_CHUNK_DELAY_MS="0",
            SERVER__HOST="127.0.0.1",
            SERVER__GRPC_PORT=str(free_port()),
            **environment,
        )
        return await answers(engine)


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """A closing node does not wait for units."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "CLOSE_LINGER", 0.05)
        yield


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], dict[str, object]]:
    """The outcomes of every call on an Edge-LLM node and on a Triton node."""

    async def ask() -> tuple[dict[str, object], dict[str, object]]:
        triton = node(
            tmp_path_factory.mktemp("triton"),
            DoubleRuntime(),
            SERVER__HOST="127.0.0.1",
            SERVER__GRPC_PORT=str(free_port()),
        )
        return await edge_llm_answers(tmp_path_factory.mktemp("edge-llm")), await answers(triton)

    return asyncio.run(ask())


@pytest.mark.parametrize("call", CALLS)
def test_a_call_gives_the_same_shape_on_both_kinds_of_node(
    nodes: tuple[dict[str, object], dict[str, object]], call: str
) -> None:
    edge_llm, triton = nodes
    assert edge_llm[call] == triton[call]
    refused = {
        "unknown analysis": grpc.StatusCode.NOT_FOUND,
        "bad audio": grpc.StatusCode.INVALID_ARGUMENT,
        "video frame": grpc.StatusCode.UNIMPLEMENTED,
        "video stream": grpc.StatusCode.UNIMPLEMENTED,
    }
    if call in refused:
        assert edge_llm[call] is refused[call]
    else:
        assert isinstance(edge_llm[call], dict | list)


async def test_a_task_that_an_edge_llm_node_cannot_do_is_unimplemented(tmp_path: Path) -> None:
    found = await edge_llm_answers(tmp_path, AI__MODELS__ASR__ENABLED="false")
    for call in ("one task", "stream with partial results"):
        assert found[call] is grpc.StatusCode.UNIMPLEMENTED
    # Emotion in audio needs its words, and this node does not recognise speech; synthesis works.
    assert list(found["all tasks"]["results"]) == ["synthesis_detection"]  # type: ignore[index]
