"""OpenAI's audio API: POST /v1/audio/transcriptions and GET /v1/models, for clients that speak it already."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import msgspec
from litestar import get
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler, asgi
from litestar.params import FromPath
from litestar.types import HTTPScope, Receive, Scope, Send

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import BadRequest, MethodNotAllowed, NotFound, ServiceError, Unsupported
from inference_service.http.body import ClientGone, header, read_body, unless_client_leaves
from inference_service.http.envelope import JSON, request_id_of, send_bytes
from inference_service.http.openai import subtitles
from inference_service.http.openai.errors import error_object
from inference_service.http.openai.languages import english_name
from inference_service.http.requests import Source, audio_of, language
from inference_service.http.upload import MULTIPART, FormPart, form_parts, format_of_file, media_type
from inference_service.runtimes.base import Call
from inference_service.streaming.buffer import quietest_point
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.tasks import DetailedTranscript, Segment, Task, TranscribeOptions, Word
from inference_service.word_times import on_the_sound

PATH = "/v1/audio/transcriptions"

#: OpenAI's names for speech recognition: this node's model answers to them, so that a client needs no change.
OPENAI_NAMES = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["segment", "word"]

#: Seconds of audio that a streamed answer comes for at a time: what Whisper hears at once.
_WINDOW_SECONDS = 30

_CONTENT_TYPES: dict[Format, bytes] = {
    "json": JSON,
    "verbose_json": JSON,
    "text": b"text/plain; charset=utf-8",
    "srt": b"application/x-subrip; charset=utf-8",
    "vtt": b"text/vtt; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """The fields of the form."""

    source: Source
    prompt: str | None
    temperature: float
    format: Format
    granularities: frozenset[Granularity]
    stream: bool

    @property
    def options(self) -> TranscribeOptions:
        """What speech recognition is asked. Times need words: segments alone are as long as half a minute."""
        timed = self.format in ("srt", "vtt", "verbose_json")
        return TranscribeOptions(self.source.language, timed, self.prompt, self.temperature)


def routes(engine: Engine) -> list[ASGIRouteHandler | HTTPRouteHandler]:
    """The routes over `engine`."""
    limits = engine.settings.ai.request
    names = (engine.settings.ai.models.asr.model_name, *OPENAI_NAMES)
    models = {name: _model(name, int(time.time())) for name in names}

    @asgi(PATH, copy_scope=False)
    async def transcriptions(scope: Scope, receive: Receive, send: Send) -> None:
        if cast(HTTPScope, scope)["method"] != "POST":
            raise MethodNotAllowed(f"{PATH} takes POST", allowed="POST")
        try:
            body = await read_body(
                scope, receive, max_bytes=limits.max_body_bytes, seconds=limits.upload_timeout
            )
            request = _read(*media_type(header(scope, b"content-type")), body, names)
            call = Call(request_id_of(scope))
            if request.stream:
                await unless_client_leaves(receive, _stream(engine, request, call, send))
                return
            answer = await unless_client_leaves(receive, _transcribe(engine, request, call))
        except ClientGone:
            return
        await send_bytes(send, 200, answer, content_type=_CONTENT_TYPES[request.format])

    @get("/v1/models", sync_to_thread=False)
    def model_list() -> dict[str, Any]:
        return {"object": "list", "data": list(models.values())}

    @get("/v1/models/{name:str}", sync_to_thread=False)
    def model(name: FromPath[str]) -> dict[str, Any]:
        if name not in models:
            raise NotFound(_no_model(name, names))
        return models[name]

    return [transcriptions, model_list, model]


# The request ------------------------------------------------------------------------------------------------


def _read(kind: str, options: dict[str, str], body: bytes, models: tuple[str, ...]) -> TranscriptionRequest:
    if kind != MULTIPART:
        raise BadRequest(f"Content-Type: expected {MULTIPART}, got {kind[:80] or 'nothing'}")
    file: FormPart | None = None
    fields: dict[str, list[str]] = {}
    for part in form_parts(options, body):
        if part.name == "file":
            if file is not None:
                raise BadRequest("file: is given twice; send one recording a request")
            file = part
        else:
            fields.setdefault(part.name.removesuffix("[]"), []).append(part.text())
    if file is None:
        raise BadRequest("file: is required")
    name = _one(fields, "model")
    if name is None:
        raise BadRequest("model: is required")
    if name not in models:
        raise NotFound(_no_model(name, models))
    if fields.get("include"):
        raise BadRequest("include: is not available here: log probabilities are not returned")
    format = cast(Format, _choice(fields, "response_format", get_args(Format)) or "json")
    stream = _choice(fields, "stream", ("true", "false")) == "true"
    if stream and format not in ("json", "text"):
        raise BadRequest(f"stream: true goes with response_format json or text, not with {format}")
    return TranscriptionRequest(
        source=Source(
            audio=file.content,
            text=None,
            format=format_of_file(file),
            sample_rate=16000,
            channels=1,
            language=language(_one(fields, "language")),
            meeting_id="",
        ),
        prompt=_one(fields, "prompt") or None,
        temperature=_temperature(_one(fields, "temperature")),
        format=format,
        granularities=_granularities(fields.get("timestamp_granularities", []), format),
        stream=stream,
    )


def _one(fields: dict[str, list[str]], name: str) -> str | None:
    values = fields.get(name, [])
    if len(values) > 1:
        raise BadRequest(f"{name}: is given {len(values)} times")
    return values[0] if values else None


def _choice(fields: dict[str, list[str]], name: str, allowed: tuple[str, ...]) -> str | None:
    value = _one(fields, name)
    if value is None or value.lower() in allowed:
        return value.lower() if value else value
    raise BadRequest(f"{name}: {value[:40]!r} is not known; allowed are {', '.join(allowed)}")


def _temperature(text: str | None) -> float:
    if not text:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"temperature: expected a number, got {text[:40]!r}") from None
    if not 0 <= value <= 1:
        raise BadRequest(f"temperature: {value:g} is not between 0 and 1")
    return value


def _granularities(values: list[str], format: Format) -> frozenset[Granularity]:
    for value in values:
        if value not in get_args(Granularity):
            raise BadRequest(
                f"timestamp_granularities: {value[:40]!r} is not known; allowed are segment and word"
            )
    if values and format != "verbose_json":
        raise BadRequest("timestamp_granularities: need response_format verbose_json")
    return cast(frozenset[Granularity], frozenset(values or ["segment"]))


def _no_model(name: str, models: tuple[str, ...]) -> str:
    return f"model: {name[:60]!r} is not here; this node has {', '.join(models)}"


# The answer -------------------------------------------------------------------------------------------------


async def _transcribe(engine: Engine, request: TranscriptionRequest, call: Call) -> bytes:
    audio = await _audio(engine, request)
    found = await engine.transcribe(audio, request.options, call)
    if request.options.word_timestamps:
        found = await asyncio.to_thread(_on_the_sound, found, audio)
    text = found.transcript.text
    match request.format:
        case "json":
            return msgspec.json.encode({"text": text})
        case "text":
            return f"{text}\n".encode()
        case "verbose_json":
            return msgspec.json.encode(_verbose(found, audio, request))
        case "srt":
            return subtitles.srt(_timed(found)).encode()
        case "vtt":
            return subtitles.vtt(_timed(found)).encode()


def _on_the_sound(found: DetailedTranscript, audio: Audio) -> DetailedTranscript:
    segments = on_the_sound(found.segments, audio.waveform(STREAM_RATE), STREAM_RATE)
    return DetailedTranscript(found.transcript, segments)


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
            found = (await engine.transcribe(window, request.options, call)).transcript.text
            if found:
                delta = f" {found}" if text else found
                text += delta
                await _event(send, {"type": "transcript.text.delta", "delta": delta})
        await _event(send, {"type": "transcript.text.done", "text": text})
    except ServiceError as error:
        await _event(send, error_object(error.status, str(error)))
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _windows(audio: Audio) -> AsyncIterator[Audio]:
    """The audio in pieces of at most `_WINDOW_SECONDS`, cut where it is quietest."""
    waveform = await asyncio.to_thread(audio.waveform, STREAM_RATE)
    most = _WINDOW_SECONDS * STREAM_RATE
    start = 0
    while start < len(waveform):
        piece = waveform[start : start + most]
        if start + most < len(waveform):
            piece = piece[: quietest_point(piece)]
        yield Audio(piece, STREAM_RATE)
        start += len(piece)


async def _event(send: Send, event: dict[str, Any]) -> None:
    line = b"data: " + msgspec.json.encode(event) + b"\n\n"
    await send({"type": "http.response.body", "body": line, "more_body": True})


async def _audio(engine: Engine, request: TranscriptionRequest) -> Audio:
    audio = await audio_of(request.source, engine.settings)
    assert audio is not None  # only a source of text has none
    return audio


def _timed(found: DetailedTranscript) -> list[Segment]:
    if found.transcript.text and not found.segments:
        raise Unsupported("this node's runtime does not say when words are spoken; ask for json or text")
    return found.segments


def _verbose(found: DetailedTranscript, audio: Audio, request: TranscriptionRequest) -> dict[str, Any]:
    segments = _timed(found)
    answer: dict[str, Any] = {
        "task": "transcribe",
        "language": english_name(found.transcript.language),
        "duration": round(audio.seconds, 3),
        "text": found.transcript.text,
    }
    if "word" in request.granularities:
        answer["words"] = [_word(word) for segment in segments for word in _words(segment)]
    if "segment" in request.granularities:
        answer["segments"] = [_segment(segment, request.temperature) for segment in segments]
    return answer


def _words(segment: Segment) -> list[Word]:
    if segment.words is None:
        raise Unsupported("this node's runtime does not say when words are spoken; ask for segments")
    return segment.words


def _word(word: Word) -> dict[str, Any]:
    return {"word": word.word.strip(), "start": round(word.start, 3), "end": round(word.end, 3)}


def _segment(segment: Segment, temperature: float) -> dict[str, Any]:
    """Whisper's fields. `tokens` is empty: the runtime gives words, not the tokens they were made of."""
    spelled = segment.text.encode("utf-8")
    return {
        "id": segment.id,
        "seek": round(100 * segment.start),  # in frames of 10 ms
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": temperature,
        "avg_logprob": segment.avg_logprob,
        "compression_ratio": len(spelled) / len(zlib.compress(spelled)),
        "no_speech_prob": segment.no_speech_prob,
    }


def _model(name: str, started: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": started, "owned_by": "gpu-inference-fleet"}
