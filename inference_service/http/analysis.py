"""The inference routes: /asr, /emotion, /synthesis, /setup, /analyze, /batch."""

import asyncio
import time
import uuid
from functools import partial
from typing import Annotated, Any, TypeVar

import msgspec
from litestar.handlers import HTTPRouteHandler

from inference_service.engine import Engine
from inference_service.errors import BadRequest, ServiceError, UnsupportedMedia
from inference_service.http import elsewhere
from inference_service.http.json_body import JsonBody
from inference_service.http.post import Post, beside_the_loop, post_route
from inference_service.http.requests import (
    AnalyzeRequest,
    AudioRequest,
    BatchRequest,
    BatchTask,
    Id,
    SetupRequest,
    Source,
    audio_of,
    decode_base64,
    id_text,
    source_of,
    task_named,
    whole_text,
)
from inference_service.http.upload import JSON_TYPES, MULTIPART, source_of_body, source_of_form
from inference_service.request_fields import language
from inference_service.results import Analysis
from inference_service.runtimes.base import Call
from inference_service.tasks import (
    TASK_NAMES,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TaskResult,
    TranscribeOptions,
    Transcript,
)

BASE = "/api/v1/ai"

_T = TypeVar("_T")


class SetupAnswer(msgspec.Struct, frozen=True):
    """`data` of `/setup`; `timestamp` in Unix seconds, as the original service's clients read it."""

    meeting_id: Id | None
    models: dict[str, ModelStatus]
    timestamp: int


#: msgspec reads no union of untagged structs, so the description of a result is written here.
_Result = Annotated[
    Any,
    msgspec.Meta(
        extra_json_schema={
            "oneOf": [
                {"$ref": f"#/components/schemas/{kind.__name__}"}
                for kind in (Transcript, EmotionResult, SynthesisResult)
            ]
        }
    ),
]


class AnalyzeAnswer(msgspec.Struct, frozen=True):
    """`data` of `/analyze`."""

    task_id: str
    result: _Result  # a TaskResult


class BatchItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One result of `/batch`: either `result` or `error`."""

    task_id: Id
    type: str
    result: _Result | None = None  # a TaskResult
    error: str | None = None


class BatchAnswer(msgspec.Struct, frozen=True):
    """`data` of `/batch`, in the order of the tasks."""

    results: list[BatchItem]
    total: int


def routes(engine: Engine) -> list[HTTPRouteHandler]:
    """Return the inference routes over `engine`."""
    analysis = _Routes(engine)
    return [
        *(post_route(f"{BASE}/{task.model}", engine, analysis.task_route(task)) for task in Task),
        post_route(f"{BASE}/setup", engine, analysis.setup),
        post_route(f"{BASE}/analyze", engine, analysis.analyze),
        post_route(f"{BASE}/batch", engine, analysis.batch),
    ]


class _Routes:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def task_route(self, task: Task) -> Any:
        """Return the handler of /asr, /emotion or /synthesis."""

        async def answer(post: Post) -> TaskResult:
            source = await beside_the_loop(post, lambda: _source(post, task))
            return await self._infer(task, source, post.call(source.meeting_id))

        return answer

    async def _infer(self, task: Task, source: Source, call: Call) -> TaskResult:
        audio = await audio_of(source, self._engine, task)
        options = TranscribeOptions(language=source.language)
        return await self._engine.run(task, audio=audio, text=source.text, options=options, call=call)

    async def setup(self, post: Post) -> SetupAnswer:
        """Warm the requested models concurrently. The status of a model says why it is not ready."""
        read = partial(_json, post, SetupRequest)
        is_empty = len(post.body) < 1000 and not post.body.strip()
        request = SetupRequest() if is_empty else (await beside_the_loop(post, read))[1]
        served = self._engine.settings.ai.models
        names = request.models or [task.model for task in Task if task in served.tasks]
        tasks = dict.fromkeys(task_named(name, f"models[{at}]") for at, name in enumerate(names))
        if post.by_gateway:
            elsewhere.check_tasks(tasks, served)
        call = post.call(id_text(request.meeting_id))
        statuses = await asyncio.gather(*(self._engine.warm(task, call) for task in tasks))
        models = {task.model: status for task, status in zip(tasks, statuses, strict=True)}
        return SetupAnswer(request.meeting_id, models, int(time.time()))

    async def analyze(self, post: Post) -> AnalyzeAnswer:
        """Do one task, and store its result under a new task id."""
        task, source = await beside_the_loop(post, lambda: _analyze_source(post))
        result = await self._infer(task, source, post.call(source.meeting_id))
        task_id = uuid.uuid4().hex
        await self._engine.remember(
            Analysis(
                task_id=task_id,
                status="ok",
                result_type=task.value,
                result_data=msgspec.json.encode(result).decode("utf-8"),
                confidence=result.confidence,
                created_at=time.time(),
            )
        )
        return AnalyzeAnswer(task_id, result)

    async def batch(self, post: Post) -> BatchAnswer:
        """Do all tasks concurrently. A task that fails has its error in its own result."""
        body, request = await beside_the_loop(post, lambda: _json(post, BatchRequest))
        limit = self._engine.settings.ai.request.max_batch_tasks
        if len(request.tasks) > limit:
            raise BadRequest(f"tasks: {len(request.tasks)} are given; at most {limit} are allowed")
        if post.by_gateway:
            known = (TASK_NAMES[item.type] for item in request.tasks if item.type in TASK_NAMES)
            elsewhere.check_tasks(known, self._engine.settings.ai.models)
        # One batch leaves half of the node's slots to others, and does not fill the queue.
        places = asyncio.Semaphore(max(1, self._engine.admission.limit // 2))

        async def one(at: int, item: BatchTask) -> BatchItem:
            task_id = item.task_id if item.task_id is not None else ""
            try:
                task = task_named(item.type, f"tasks[{at}].type")
                where = f"tasks[{at}].data"
                data = bytes(item.data)
                if data[:1] != b"{":
                    raise BadRequest(f"{where}: expected an object")

                def read() -> Source:
                    return source_of(body.decode(AudioRequest, data, where), task, where)

                async with places:
                    source = await beside_the_loop(post, read)
                    result = await self._infer(task, source, post.call(source.meeting_id))
            except ServiceError as error:
                return BatchItem(task_id, item.type or "", error=str(error))
            return BatchItem(task_id, item.type or "", result=result)

        async with asyncio.TaskGroup() as group:
            items = [group.create_task(one(at, item)) for at, item in enumerate(request.tasks)]
        return BatchAnswer([item.result() for item in items], len(items))


def _json(post: Post, kind: type[_T]) -> tuple[JsonBody, _T]:
    """The body, and what it holds."""
    if post.media_type and not _is_json(post.media_type):
        raise UnsupportedMedia(f"Content-Type {post.media_type[:80]} is not supported; send application/json")
    body = JsonBody(post.body)
    return body, body.decode(kind)


def _is_json(kind: str) -> bool:
    return kind in JSON_TYPES or (kind.startswith("application/") and kind.endswith("+json"))


def _source(post: Post, task: Task) -> Source:
    """Return the source of a request to an audio route: JSON, a form or raw audio."""
    # No Content-Type at all: the original service read every body as JSON.
    if not post.media_type or _is_json(post.media_type):
        return source_of(JsonBody(post.body).decode(AudioRequest), task)
    if post.media_type == MULTIPART:
        return source_of_form(post.options, post.query, post.body, task)
    return source_of_body(post.media_type, post.options, post.query, post.body, task)


def _analyze_source(post: Post) -> tuple[Task, Source]:
    """Return the task and the source of /analyze. For emotion without a format, `input_data` is text."""
    _, request = _json(post, AnalyzeRequest)
    task = task_named(request.task_type, "task_type")
    params = {key: _param(value) for key, value in (request.params or {}).items() if value not in (None, "")}
    text: str | None = None
    audio: bytes | None = None
    if task is Task.EMOTION and "format" not in params:
        text = params.get("text") or _text_of(decode_base64(request.input_data, "input_data"))
        if not text:
            raise BadRequest("input_data: is required: text in base64, or audio with params.format")
    else:
        audio = decode_base64(request.input_data, "input_data")
        if audio is None:
            raise BadRequest("input_data: is required: audio in base64")
    source = Source(
        audio=audio,
        text=text,
        format=params.get("format", "pcm"),
        sample_rate=whole_text(params.get("sample_rate"), "params.sample_rate"),
        channels=whole_text(params.get("channels"), "params.channels"),
        language=language(params.get("language"), "params.language"),
        meeting_id=id_text(request.meeting_id),
    )
    return task, source


def _param(value: str | float | None) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _text_of(content: bytes | None) -> str | None:
    if content is None:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest("input_data: is not UTF-8 text; for audio give params.format") from None
