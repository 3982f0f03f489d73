"""The methods of `grpc.AIService`, over the engine."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator

import grpc
import msgspec
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from inference_service.audio import Audio, Recording
from inference_service.engine import Engine
from inference_service.errors import BadRequest, NotFound, ServiceError, Unsupported
from inference_service.grpc_api.caller import Answering, Caller
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated import ai_service_pb2_grpc
from inference_service.intake import decoded
from inference_service.results import Analysis
from inference_service.runtimes.base import Call
from inference_service.streaming import Chunk, Streaming, StreamResult
from inference_service.streaming.format import parse_tasks
from inference_service.tasks import TASK_NAMES, Task, TaskResult, TranscribeOptions

_log = logging.getLogger(__name__)

_NO_VIDEO = (
    "video is not analysed here; this service does speech recognition, emotion and synthesis detection"
)


class AIService(ai_service_pb2_grpc.AIServiceServicer):
    """One worker's AI service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._streaming = Streaming(engine)
        self._answering = Answering()

    async def ProcessAudioData(
        self, request: pb.ProcessAudioDataRequest, context: grpc.aio.ServicerContext
    ) -> pb.ProcessAudioDataResponse:
        """Do every requested task on the audio, concurrently.

        If all fail with the same status code, the call fails with it. If only some fail, the response has the
        status `partial` and the other results.
        """
        async with self._answering.call(context, "ProcessAudioData") as caller:
            names = tuple(dict.fromkeys(request.tasks)) or (Task.ASR.value,)
            tasks = parse_tasks(names)
            recording = Recording(
                request.audio_data,
                request.format or None,
                request.sample_rate or None,
                request.channels or None,
            )
            audio = await decoded(recording, self._engine, tasks[0])
            call = Call(caller.request_id, request.room_id, timeout=context.time_remaining())
            results = await self._infer_all(tasks, audio, caller, call)
            return await self._answer(names, results)

    async def StreamAudioProcessing(
        self, request_iterator: AsyncIterator[pb.AudioChunk], context: grpc.aio.ServicerContext
    ) -> None:
        """Live audio (see `streaming`). Metadata may have `language` and `flush-interval-ms`."""
        async with self._answering.call(context, "StreamAudioProcessing") as caller:
            with self._streaming.connect(
                Call(caller.request_id),
                language=caller.language,
                flush_interval_ms=caller.flush_interval_ms,
            ) as connection:
                # At once: clients such as tonic give their caller the stream only when the response began.
                await caller.begin_answer()

                async def send(result: StreamResult) -> None:
                    await context.write(_stream_result(result))

                await connection.run(_chunks(request_iterator), send)

    async def GetAIAnalysis(
        self, request: pb.GetAIAnalysisRequest, context: grpc.aio.ServicerContext
    ) -> pb.GetAIAnalysisResponse:
        """The result that is stored under a task id."""
        async with self._answering.call(context, "GetAIAnalysis"):
            if not request.task_id:
                raise BadRequest("task_id: is required")
            analysis = await self._engine.results.get(request.task_id)
            if analysis is None:
                raise NotFound(f"task_id: no result is stored under {request.task_id[:100]!r}")
            return pb.GetAIAnalysisResponse(
                task_id=analysis.task_id,
                status=analysis.status,
                result_type=analysis.result_type,
                result_data=analysis.result_data,
                confidence=analysis.confidence or 0.0,
                created_at=_timestamp(analysis.created_at),
            )

    async def NotifyAIResult(
        self, request: pb.NotifyAIResultRequest, context: grpc.aio.ServicerContext
    ) -> Empty:
        """Store another service's result for GetAIAnalysis as `<room_id>/<user_id>/<result_type>`."""
        async with self._answering.call(context, "NotifyAIResult"):
            await self._engine.results.put(_notified(request))
            _log.info(
                "another service's result stored",
                extra={
                    "meeting_id": request.room_id,
                    "user_id": request.user_id,
                    "type": request.result_type,
                },
            )
            return Empty()

    async def ProcessVideoFrame(
        self, request: pb.ProcessVideoFrameRequest, context: grpc.aio.ServicerContext
    ) -> pb.ProcessVideoFrameResponse:
        """Not served."""
        async with self._answering.call(context, "ProcessVideoFrame"):
            raise Unsupported(_NO_VIDEO)

    async def StreamVideoProcessing(
        self, request_iterator: AsyncIterator[pb.VideoChunk], context: grpc.aio.ServicerContext
    ) -> None:
        """Not served."""
        async with self._answering.call(context, "StreamVideoProcessing"):
            raise Unsupported(_NO_VIDEO)

    async def _infer_all(
        self, tasks: tuple[Task, ...], audio: Audio, caller: Caller, call: Call
    ) -> dict[Task, TaskResult | ServiceError]:
        options = TranscribeOptions(language=caller.language)

        async def infer(task: Task) -> TaskResult | ServiceError:
            try:
                return await self._engine.run(task, audio=audio, options=options, call=call)
            except ServiceError as error:
                return error

        async with asyncio.TaskGroup() as group:
            running = {task: group.create_task(infer(task)) for task in tasks}
        return {task: done.result() for task, done in running.items()}

    async def _answer(
        self, names: tuple[str, ...], found: dict[Task, TaskResult | ServiceError]
    ) -> pb.ProcessAudioDataResponse:
        errors = {task: outcome for task, outcome in found.items() if isinstance(outcome, ServiceError)}
        results = {task: outcome for task, outcome in found.items() if not isinstance(outcome, ServiceError)}
        if not results and len({error.grpc_code for error in errors.values()}) == 1:
            raise next(iter(errors.values()))
        status = "ok" if not errors else "partial" if results else "error"
        now = time.time()
        task_id = uuid.uuid4().hex
        await self._engine.remember(_analysis(task_id, status, results, now))
        return pb.ProcessAudioDataResponse(
            task_id=task_id,
            status=status,
            error="; ".join(f"{task}: {error}" for task, error in errors.items()),
            results={
                name: _result(task, results[task], now)
                for name in names
                if (task := TASK_NAMES[name]) in results
            },
        )


def _analysis(task_id: str, status: str, results: dict[Task, TaskResult], now: float) -> Analysis:
    """What GetAIAnalysis returns:

    one result as it is; several as an object by task, with the least confidence.
    """
    data = next(iter(results.values())) if len(results) == 1 else results
    return Analysis(
        task_id=task_id,
        status=status,
        result_type=",".join(results),
        result_data=_json(data),
        confidence=min(
            (result.confidence for result in results.values() if result.confidence is not None), default=None
        ),
        created_at=now,
    )


def _notified(request: pb.NotifyAIResultRequest) -> Analysis:
    task = TASK_NAMES.get(request.result_type)
    if task is None:
        raise BadRequest(
            f"result_type: {request.result_type[:40]!r} is not a task; allowed are {', '.join(TASK_NAMES)}"
        )
    if not 0 <= request.confidence <= 1:
        raise BadRequest(f"confidence: {request.confidence} is not between 0 and 1")
    try:
        msgspec.json.decode(request.result_data)
    except msgspec.DecodeError as error:
        raise BadRequest(f"result_data: is not JSON: {error}") from None
    return Analysis(
        task_id=f"{request.room_id}/{request.user_id}/{task}",
        status="ok",
        result_type=task,
        result_data=request.result_data,
        confidence=request.confidence,
        created_at=time.time(),
    )


async def _chunks(messages: AsyncIterator[pb.AudioChunk]) -> AsyncIterator[Chunk]:
    async for message in messages:
        yield _chunk(message)
        del message  # an idle stream must not keep its last message in memory


def _chunk(message: pb.AudioChunk) -> Chunk:
    return Chunk(
        data=message.data,
        sequence=message.sequence,
        stream_id=message.stream_id,
        meeting_id=message.room_id,
        format=message.format,
        sample_rate=message.sample_rate,
        channels=message.channels,
        tasks=tuple(message.tasks),
        is_final=message.is_final,
    )


def _result(task: Task, data: TaskResult, now: float) -> pb.AIResult:
    return pb.AIResult(
        result_type=task,
        result_data=_json(data),
        # protobuf's double cannot be absent; `result_data` has null where the model gives no confidence.
        confidence=data.confidence or 0.0,
        created_at=_timestamp(now),
    )


def _stream_result(result: StreamResult) -> pb.AIStreamResult:
    return pb.AIStreamResult(
        stream_id=result.stream_id,
        sequence=result.sequence,
        result_type=result.task,
        result_data=_json(result.data),
        confidence=result.data.confidence or 0.0,
        is_final=result.is_final,
        timestamp=_timestamp(result.timestamp),
    )


def _json(data: object) -> str:
    return msgspec.json.encode(data).decode("utf-8")


def _timestamp(seconds: float) -> Timestamp:
    whole = int(seconds)
    return Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))
