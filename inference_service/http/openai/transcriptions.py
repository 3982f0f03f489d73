"""OpenAI's audio API: POST /v1/audio/transcriptions and GET /v1/models, for clients that speak it already."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
from litestar import get
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler, asgi
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive, Scope, Send

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import MethodNotAllowed, NotFound, ServiceError
from inference_service.http.body import ClientGone, header, read_body, unless_client_leaves
from inference_service.http.envelope import JSON, request_id_of, send_bytes
from inference_service.http.openai import answers
from inference_service.http.openai.answers import Model, ModelList
from inference_service.http.openai.errors import error_answer
from inference_service.http.openai.form import OPENAI_NAMES, Format, TranscriptionRequest, no_model, read_form
from inference_service.http.requests import audio_of
from inference_service.http.upload import media_type
from inference_service.runtimes.base import Call
from inference_service.streaming.buffer import quietest_point
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.tasks import DetailedTranscript, Task
from inference_service.word_times import on_the_sound

PATH = "/v1/audio/transcriptions"

#: Seconds of audio in one event of a streamed answer: what Whisper hears at once.
_WINDOW_SECONDS = 30

_CONTENT_TYPES: dict[Format, bytes] = {
    "json": JSON,
    "verbose_json": JSON,
    "text": b"text/plain; charset=utf-8",
    "srt": b"application/x-subrip; charset=utf-8",
    "vtt": b"text/vtt; charset=utf-8",
}


def routes(engine: Engine) -> list[ASGIRouteHandler | HTTPRouteHandler]:
    """The routes over `engine`."""
    limits = engine.settings.ai.request
    names = (engine.settings.ai.models.asr.model_name, *OPENAI_NAMES)
    models = {name: Model(name, int(time.time())) for name in names}

    @asgi(PATH, copy_scope=False)
    async def transcriptions(scope: Scope, receive: Receive, send: Send) -> None:
        if cast(HTTPScope, scope)["method"] != "POST":
            raise MethodNotAllowed(f"{PATH} takes POST", allowed="POST")
        try:
            body = await read_body(
                scope, receive, max_bytes=limits.max_body_bytes, seconds=limits.upload_timeout
            )
            request = read_form(*media_type(header(scope, b"content-type")), body, names)
            call = Call(request_id_of(scope))
            if request.stream:
                await unless_client_leaves(receive, _stream(engine, request, call, send))
                return
            answer = await unless_client_leaves(receive, _transcribe(engine, request, call))
        except ClientGone:
            return
        await send_bytes(send, 200, answer, content_type=_CONTENT_TYPES[request.format])

    @get("/v1/models", sync_to_thread=False)
    def model_list() -> ModelList:
        return ModelList(list(models.values()))

    @get("/v1/models/{name:str}", sync_to_thread=False)
    def model(name: FromPath[str]) -> Model:
        if name not in models:
            raise NotFound(no_model(name, names))
        return models[name]

    return [transcriptions, model_list, model]


async def _transcribe(engine: Engine, request: TranscriptionRequest, call: Call) -> bytes:
    audio = await _audio(engine, request)
    heard = await engine.transcribe(audio, request.options, call)
    if request.options.word_timestamps:
        heard = await asyncio.to_thread(_on_the_sound, heard, audio)
    return answers.body(heard, audio, request)


def _on_the_sound(heard: DetailedTranscript, audio: Audio) -> DetailedTranscript:
    segments = on_the_sound(heard.segments, audio.waveform(STREAM_RATE), STREAM_RATE)
    return DetailedTranscript(heard.transcript, segments)


async def _stream(engine: Engine, request: TranscriptionRequest, call: Call, send: Send) -> None:
    """Answer with server-sent events: the text of each window as soon as it is known, then all of it."""
    audio = await _audio(engine, request)
    engine.check_offered(Task.ASR)
    fields = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
    # Nginx would otherwise hold the events back until it has a buffer full of them.
    fields.append((b"x-accel-buffering", b"no"))
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    text = ""
    try:
        async for window in _windows(audio):
            heard = (await engine.transcribe(window, request.options, call)).transcript.text
            if heard:
                delta = f" {heard}" if text else heard
                text += delta
                await _event(send, {"type": "transcript.text.delta", "delta": delta})
        await _event(send, {"type": "transcript.text.done", "text": text})
    except ServiceError as error:
        await _event(send, error_answer(error.status, str(error)))
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _windows(audio: Audio) -> AsyncIterator[Audio]:
    """The audio in pieces of at most `_WINDOW_SECONDS`, cut where it is quietest."""
    waveform = await asyncio.to_thread(audio.waveform, STREAM_RATE)
    limit = _WINDOW_SECONDS * STREAM_RATE
    start = 0
    while start < len(waveform):
        piece = waveform[start : start + limit]
        if start + limit < len(waveform):
            piece = piece[: quietest_point(piece)]
        yield Audio(piece, STREAM_RATE)
        start += len(piece)


async def _event(send: Send, event: Any) -> None:
    line = b"data: " + msgspec.json.encode(event) + b"\n\n"
    await send({"type": "http.response.body", "body": line, "more_body": True})


async def _audio(engine: Engine, request: TranscriptionRequest) -> Audio:
    audio = await audio_of(request.source, engine.settings)
    assert audio is not None  # only a source of text has none
    return audio
