"""OpenAI's audio API: POST /v1/audio/transcriptions and GET /v1/models, for clients that speak it already."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.response import Stream

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import NotFound, ServiceError
from inference_service.http.body import unless_client_leaves
from inference_service.http.envelope import JSON
from inference_service.http.openai import answers
from inference_service.http.openai.answers import Model, ModelList
from inference_service.http.openai.errors import error_answer
from inference_service.http.openai.form import OPENAI_NAMES, Format, TranscriptionRequest, no_model, read_form
from inference_service.http.post import read_post
from inference_service.http.requests import audio_of
from inference_service.model_cards import ModelRole
from inference_service.runtimes.base import Call
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.tasks import DetailedTranscript, Task
from inference_service.word_times import on_the_sound

PATH = "/v1/audio/transcriptions"

#: OpenAI's field `owned_by` of every model.
OWNER = "gpu-inference-fleet"

_CONTENT_TYPES: dict[Format, str] = {
    "json": JSON,
    "verbose_json": JSON,
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}


def routes(engine: Engine) -> list[HTTPRouteHandler]:
    """Return the routes over `engine`."""
    names = (engine.settings.ai.models.asr.model_name, *OPENAI_NAMES)
    created = int(time.time())

    @post(PATH, status_code=200)
    async def transcriptions(request: Request[Any, Any, Any]) -> Response[bytes] | Stream:
        body = await read_post(request, engine)
        form = read_form(body.media_type, body.options, body.body, names)
        work = (_stream if form.stream else _transcribe)(engine, form, body.call())
        return await unless_client_leaves(request.receive, work)

    async def described(name: str) -> Model:
        told = await engine.offer.describe_model(ModelRole.ASR)
        return Model(name, created, "model", OWNER, told.kind, told.version, told.languages, told.licence)

    @get("/v1/models")
    async def model_list() -> ModelList:
        return ModelList([await described(name) for name in names])

    @get("/v1/models/{name:str}")
    async def model(name: FromPath[str]) -> Model:
        if name not in names:
            raise NotFound(no_model(name, names))
        return await described(name)

    return [transcriptions, model_list, model]


async def _transcribe(engine: Engine, request: TranscriptionRequest, call: Call) -> Response[bytes]:
    audio = await _audio(engine, request)
    heard = await engine.transcribe(audio, request.options, call)
    if request.options.word_timestamps:
        heard = await asyncio.to_thread(_on_the_sound, heard, audio)
    return Response(answers.body(heard, audio, request), media_type=_CONTENT_TYPES[request.format])


def _on_the_sound(heard: DetailedTranscript, audio: Audio) -> DetailedTranscript:
    segments = on_the_sound(heard.segments, audio.waveform(STREAM_RATE), STREAM_RATE)
    return DetailedTranscript(heard.transcript, segments)


async def _stream(engine: Engine, request: TranscriptionRequest, call: Call) -> Stream:
    """Server-sent events, once the audio is decoded."""
    audio = await _audio(engine, request)
    engine.check_offered(Task.ASR)
    # Without this, nginx holds the events back until its buffer is full.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    events = _events(engine, request, audio, call)
    return Stream(events, media_type="text/event-stream; charset=utf-8", headers=headers)


async def _events(
    engine: Engine, request: TranscriptionRequest, audio: Audio, call: Call
) -> AsyncIterator[bytes]:
    """The text of each window as soon as it is known, then all of it."""
    text = ""
    try:
        async with aclosing(engine.transcribe_in_parts(audio, request.options, call)) as parts:
            async for part in parts:
                if heard := part.transcript.text:
                    delta = f" {heard}" if text else heard
                    text += delta
                    yield _event({"type": "transcript.text.delta", "delta": delta})
        yield _event({"type": "transcript.text.done", "text": text})
    except ServiceError as error:
        yield _event(error_answer(error.status, str(error)))
    yield b"data: [DONE]\n\n"


def _event(event: Any) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


async def _audio(engine: Engine, request: TranscriptionRequest) -> Audio:
    audio = await audio_of(request.source, engine.settings)
    assert audio is not None  # only a source of text has none
    return audio
