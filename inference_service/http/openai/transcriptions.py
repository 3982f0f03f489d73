"""OpenAI's audio API: POST /v1/audio/transcriptions and /v1/audio/translations, for clients that speak it
already."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from inference_service import budget
from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import ServiceError
from inference_service.http.body import unless_client_leaves
from inference_service.http.envelope import JSON
from inference_service.http.openai import answers
from inference_service.http.openai.errors import ErrorAnswer, error_detail
from inference_service.http.openai.form import (
    Format,
    TranscriptionRequest,
    read_transcription,
    read_translation,
)
from inference_service.http.post import beside_the_loop, read_post
from inference_service.http.requests import audio_of
from inference_service.runtimes.base import Call
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.tasks import DetailedTranscript, Task
from inference_service.windows import joined
from inference_service.word_times import on_the_sound

TRANSCRIPTIONS = "/v1/audio/transcriptions"
TRANSLATIONS = "/v1/audio/translations"

_CONTENT_TYPES: dict[Format, str] = {
    "json": JSON,
    "verbose_json": JSON,
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}

ReadForm = Callable[[str, dict[str, str], bytes, str], TranscriptionRequest]


def routes(engine: Engine) -> list[HTTPRouteHandler]:
    """Return the routes over `engine`."""
    own = engine.settings.ai.models.asr.model_name

    async def answer(request: Request[Any, Any, Any], read_form: ReadForm) -> Response[bytes] | Stream:
        body = await read_post(request, engine)
        form = await beside_the_loop(body, lambda: read_form(body.media_type, body.options, body.body, own))
        work = (_stream if form.stream else _transcribe)(engine, form, body.call())
        return await unless_client_leaves(request.receive, work)

    @post(TRANSCRIPTIONS, status_code=200)
    async def transcriptions(request: Request[Any, Any, Any]) -> Response[bytes] | Stream:
        return await answer(request, read_transcription)

    @post(TRANSLATIONS, status_code=200)
    async def translations(request: Request[Any, Any, Any]) -> Response[bytes] | Stream:
        return await answer(request, read_translation)

    return [transcriptions, translations]


async def _transcribe(engine: Engine, request: TranscriptionRequest, call: Call) -> Response[bytes]:
    audio = await _audio(engine, request)
    heard = await engine.transcribe(audio, request.options, call)
    body = await _body(heard, audio, request)
    return Response(body, media_type=_CONTENT_TYPES[request.format])


async def _body(heard: DetailedTranscript, audio: Audio, request: TranscriptionRequest) -> bytes:
    if request.options.word_timestamps:
        with budget.current().briefly(4 * audio.frames):
            heard = await asyncio.to_thread(_on_the_sound, heard, audio)
    return answers.body(heard, audio, request)


def _on_the_sound(heard: DetailedTranscript, audio: Audio) -> DetailedTranscript:
    segments = on_the_sound(heard.segments, audio.waveform(STREAM_RATE), STREAM_RATE)
    return DetailedTranscript(heard.transcript, segments)


async def _stream(engine: Engine, request: TranscriptionRequest, call: Call) -> Stream:
    """Server-sent events, from the first window's text on: until then an error has a status of its own, so
    that a gateway can ask another node."""
    audio = await _audio(engine, request)
    events = _events(engine, request, audio, call)
    first = await anext(events)
    # Without this, nginx holds the events back until its buffer is full.
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    media_type = "text/event-stream; charset=utf-8"
    return Stream(_reported(first, events), media_type=media_type, headers=headers)


async def _events(
    engine: Engine, request: TranscriptionRequest, audio: Audio, call: Call
) -> AsyncGenerator[bytes]:
    """The text of each window as soon as it is known, then all of it, or the subtitles.

    `seconds` is how far recognition has come: not in OpenAI's API, and for clients that show progress.
    """
    heard: list[DetailedTranscript] = []
    text, seconds = "", 0.0
    async with aclosing(engine.transcribe_in_parts(audio, request.options, call)) as parts:
        async for part in parts:
            heard.append(part)
            seconds += part.transcript.duration_ms / 1000
            if part.transcript.text:
                delta = f" {part.transcript.text}" if text else part.transcript.text
                text += delta
                yield _event({"type": "transcript.text.delta", "delta": delta, "seconds": round(seconds, 3)})
    whole = joined(heard, audio.duration_ms)
    if request.format in ("srt", "vtt"):
        text = (await _body(whole, audio, request)).decode()
    caveat = {"caveat": whole.transcript.caveat} if whole.transcript.caveat else {}
    yield _event(
        {
            "type": "transcript.text.done",
            "text": text,
            "languages": answers.languages(part.transcript for part in heard),
            "usage": answers.usage(audio),
            **caveat,
        }
    )


async def _reported(first: bytes, events: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """The events; an error is one of them."""
    async with aclosing(events):
        yield first
        try:
            async for event in events:
                yield event
        except ServiceError as error:
            yield _event(ErrorAnswer(error_detail(error)))
    yield b"data: [DONE]\n\n"


def _event(event: Any) -> bytes:
    return b"data: " + msgspec.json.encode(event) + b"\n\n"


async def _audio(engine: Engine, request: TranscriptionRequest) -> Audio:
    audio = await audio_of(request.source, engine, Task.ASR)
    assert audio is not None  # only a source of text has none
    return audio
