"""The API's description (OpenAPI 3.0) and its page, which loads nothing from elsewhere.

The description is written here and not derived from the handlers: one route takes JSON, raw audio and forms,
which no signature says. Property tests hold the service to it.
"""

from __future__ import annotations

import base64
import importlib.util
import struct
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from inference_service import __version__
from inference_service.engine import Engine
from inference_service.http.analysis import BASE
from inference_service.http.openai import description as openai_description
from inference_service.http.upload import AUDIO_TYPES
from inference_service.tasks import TASK_NAMES, Task

Schema = dict[str, Any]

_ID = {"oneOf": [{"type": "integer"}, {"type": "string"}], "nullable": True}


def routes(_: Engine) -> Sequence[HTTPRouteHandler]:
    """The description at /openapi.json and its page at /docs; also under the base that gateways pass on."""

    @get(["/openapi.json", f"{BASE}/openapi.json"])
    async def description() -> Response[bytes]:
        return Response(msgspec.json.encode(document()), media_type="application/json")

    @get(["/docs", f"{BASE}/docs"])
    async def page() -> Response[str]:
        return Response(_PAGE, media_type="text/html")

    @get(["/docs/{name:str}", f"{BASE}/docs/{{name:str}}"])
    async def asset(name: FromPath[str]) -> Response[bytes]:
        if name not in _ASSETS:
            raise NotFoundException
        content = (_swagger_ui() / name).read_bytes()
        return Response(content, media_type=_ASSETS[name], headers={"cache-control": "max-age=86400"})

    return [description, page, asset]


_ASSETS = {"swagger-ui.css": "text/css", "swagger-ui-bundle.js": "text/javascript"}

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>AI inference service</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#ui", validatorUrl: null});</script>
</body>
</html>
"""


def _swagger_ui() -> Path:
    """The folder of Swagger UI's files. The package is found, not imported: its own imports cost memory."""
    spec = importlib.util.find_spec("swagger_ui_bundle")
    assert spec is not None and spec.origin is not None
    return next((Path(spec.origin).parent / "vendor").glob("swagger-ui-*"))


@cache
def document() -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, Any] = {
        "/health": {"get": _process_health()},
        "/metrics": {"get": _metrics()},
        f"{BASE}/health": {"get": _status("Whether this node can answer now", "Health", [503], key=False)},
        f"{BASE}/info": {"get": _status("What this node offers", "Info", [])},
        f"{BASE}/asr": {"post": _audio_route(Task.ASR, "Speech recognition", "Transcript")},
        f"{BASE}/emotion": {"post": _audio_route(Task.EMOTION, "Emotion of speech or of text", "Emotion")},
        f"{BASE}/synthesis": {
            "post": _audio_route(Task.SYNTHESIS, "Synthetic speech detection", "Synthesis")
        },
        f"{BASE}/setup": {"post": _json_route("Warm the models", "SetupRequest", "Setup", required=False)},
        f"{BASE}/analyze": {"post": _json_route("One task by name", "AnalyzeRequest", "Analysis")},
        f"{BASE}/batch": {"post": _json_route("Several tasks at once", "BatchRequest", "Batch")},
        **openai_description.PATHS,
    }
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "AI inference service",
            "version": __version__,
            "description": "Speech recognition, emotion detection and synthetic-speech detection. Every "
            "answer but /health, /metrics and OpenAI's routes under /v1 is in one envelope; `request_id` "
            f"echoes `X-Request-ID`. Live audio goes over the WebSocket {BASE}/stream, or over gRPC.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        # Either key, or none where the node asks for none.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _envelope(data: Schema) -> Schema:
    return {
        "allOf": [_ref("Envelope"), {"type": "object", "properties": {"data": data}, "required": ["data"]}]
    }


_REASONS = {
    400: "Bad JSON, base64, audio or field; the reason names it",
    401: "Missing or wrong API key",
    408: "The body came too slowly",
    413: "The body or the audio is too large",
    415: "Unknown media type",
    501: "The node's runtime cannot do this task",
    503: "The node is full or about to stop, or the model or runtime is not ready",
    504: "The runtime took too long",
}


def _responses(data: Schema, errors: Sequence[int]) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {"description": "success", "content": {"application/json": {"schema": _envelope(data)}}}
    }
    for status in errors:
        answers[str(status)] = {
            "description": _REASONS[status],
            "content": {"application/json": {"schema": _ref("Error")}},
        }
        if status == 503:
            answers["503"]["headers"] = {
                "Retry-After": {
                    "description": "seconds, when the node is full",
                    "schema": {"type": "integer"},
                }
            }
    return answers


_WORK_ERRORS = (400, 401, 408, 413, 415, 501, 503, 504)


def _status(summary: str, data: str, errors: Sequence[int], *, key: bool = True) -> Schema:
    operation = {"summary": summary, "responses": _responses(_ref(data), [*([401] if key else []), *errors])}
    return operation if key else {**operation, "security": []}


def _process_health() -> Schema:
    schema = _object(
        {"status": {"type": "string", "enum": ["ok", "draining"]}, "service": _text(), "time": _time()}
    )
    content = {"application/json": {"schema": schema}}
    return {
        "summary": "Whether the process is up",
        "security": [],
        "responses": {
            "200": {"description": "up", "content": content},
            "503": {"description": "about to stop", "content": content},
        },
    }


def _metrics() -> Schema:
    return {
        "summary": "Prometheus metrics of the node",
        "security": [],
        "responses": {"200": {"description": "metrics", "content": {"text/plain": {"schema": _text()}}}},
    }


def _audio_route(task: Task, summary: str, data: str) -> Schema:
    request = "EmotionRequest" if task is Task.EMOTION else "AudioRequest"
    example = {"audio_data": _EXAMPLE_WAV, "format": "wav", "sample_rate": 16000, "meeting_id": 42}
    examples: dict[str, Any] = {"wav": {"summary": "A WAV file in base64", "value": example}}
    if task is Task.EMOTION:
        examples["text"] = {"summary": "Text", "value": {"text": "I am so happy to see you"}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "summary": summary,
        "description": "Audio as base64 in JSON, as the body itself (raw PCM is 16-bit little-endian and "
        "described by the query), or as a file of a form.",
        "parameters": [
            _parameter(
                "format", _text(), "The format of an application/octet-stream body; default pcm", "pcm"
            ),
            _parameter("sample_rate", _count(), "Hz of a raw PCM body; default 16000", 16000),
            _parameter("channels", _count(), "Channels of a raw PCM body; default 1", 1),
            _parameter("language", _text(), "The language spoken, when known", "en"),
            _parameter("meeting_id", _text(), "The meeting that the audio belongs to", "42"),
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": _ref(request), "examples": examples},
                "multipart/form-data": {
                    "schema": _ref("AudioForm"),
                    "example": {"file": "(a recording)", "language": "en"},
                },
                **dict.fromkeys(AUDIO_TYPES, binary),
            },
        },
        "responses": _responses(_ref(data), _WORK_ERRORS),
    }


def _json_route(summary: str, request: str, data: str, *, required: bool = True) -> Schema:
    return {
        "summary": summary,
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": _ref(request), "example": _EXAMPLES[request]}},
        },
        "responses": _responses(_ref(data), _WORK_ERRORS),
    }


def _parameter(name: str, schema: Schema, description: str, example: Any) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema, "example": example}


def _text(**more: Any) -> Schema:
    return {"type": "string", **more}


def _time() -> Schema:
    return _text(format="date-time")


def _count() -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


def _share() -> Schema:
    return {"type": "number", "minimum": 0, "maximum": 1}


def _object(properties: dict[str, Schema], required: Sequence[str] | None = None) -> Schema:
    """An object; without `required`, all its properties are."""
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, **({"required": needed} if needed else {})}


def _audio_fields() -> dict[str, Schema]:
    return {
        "audio_data": _text(description="The recording in base64"),
        "format": _text(nullable=True, description="wav (default), pcm, flac, ogg, mp3, …"),
        "sample_rate": {**_count(), "nullable": True, "description": "Hz of raw PCM; default 16000"},
        "channels": {**_count(), "nullable": True, "description": "Channels of raw PCM; default 1"},
        "language": _text(nullable=True, description="The language spoken; default: found out"),
        "meeting_id": _ID,
    }


def _schemas() -> dict[str, Schema]:
    duration = {"type": "integer", "minimum": 0, "description": "Length of the audio in milliseconds"}
    task_name = _text(enum=list(TASK_NAMES))
    text_fields = {**_audio_fields(), "text": _text(nullable=True, description="Instead of audio_data")}
    model_status = _object(
        {"model_name": _text(), "ready": {"type": "boolean"}, "model_path": _text(), "error": _text()},
        ["model_name", "ready"],
    )
    results = {"oneOf": [_ref("Transcript"), _ref("Emotion"), _ref("Synthesis")]}
    stamp = {"type": "integer", "description": "Unix seconds"}
    return {
        "Envelope": _object(
            {
                "code": {"type": "integer", "description": "The HTTP status"},
                "message": _text(description="success, or the reason"),
                "data": {"nullable": True},
                "timestamp": _time(),
                "request_id": _text(),
            },
        ),
        "Error": {
            "allOf": [_ref("Envelope")],
            "example": {
                "code": 400,
                "message": "audio_data: is required",
                "data": None,
                "timestamp": "2026-01-02T03:04:05.678Z",
                "request_id": "0c5f2a",
            },
        },
        "AudioRequest": _object(_audio_fields(), ["audio_data"]),
        "EmotionRequest": {**_object(text_fields, []), "description": "audio_data, or text; audio wins"},
        "AudioForm": _object(
            {
                "file": _text(format="binary", description="The recording"),
                "format": _text(),
                "sample_rate": _text(),
                "channels": _text(),
                "language": _text(),
                "meeting_id": _text(),
            },
            ["file"],
        ),
        "SetupRequest": _object(
            {"meeting_id": _ID, "models": {"type": "array", "items": task_name, "nullable": True}}, []
        ),
        "AnalyzeRequest": _object(
            {
                "task_type": task_name,
                "input_data": _text(description="Audio in base64; for emotion without params.format, text"),
                "params": {
                    "type": "object",
                    "nullable": True,
                    "additionalProperties": _text(),
                    "description": "format (default pcm), sample_rate, channels, language, text",
                },
                "meeting_id": _ID,
                "user_id": _ID,
            },
            ["task_type", "input_data"],
        ),
        "BatchRequest": _object(
            {
                "tasks": {
                    "type": "array",
                    "maxItems": 256,
                    "items": _object(
                        {"task_id": _ID, "type": task_name, "data": _ref("EmotionRequest")}, ["type", "data"]
                    ),
                }
            }
        ),
        "Transcript": _object(
            {"text": _text(), "confidence": _share(), "language": _text(), "duration_ms": duration}
        ),
        "Emotion": _object(
            {
                "emotion": _text(),
                "confidence": _share(),
                "emotions": {"type": "object", "additionalProperties": _share()},
                "duration_ms": duration,
            }
        ),
        "Synthesis": _object(
            {
                "is_synthetic": {"type": "boolean"},
                "confidence": _share(),
                "score": _share(),
                "duration_ms": duration,
            }
        ),
        "Setup": _object(
            {
                "meeting_id": _ID,
                "models": {"type": "object", "additionalProperties": model_status},
                "timestamp": stamp,
            }
        ),
        "Analysis": _object({"task_id": _text(), "result": results}),
        "Batch": _object(
            {
                "results": {
                    "type": "array",
                    "items": _object(
                        {"task_id": _ID, "type": _text(), "result": results, "error": _text()},
                        ["task_id", "type"],
                    ),
                },
                "total": {"type": "integer", "minimum": 0},
            }
        ),
        "Health": _object({"status": _text(enum=["healthy"]), "service": _text(), "timestamp": stamp}),
        "Info": _object(
            {
                "service": _text(),
                "version": _text(),
                "description": _text(),
                "capabilities": {"type": "array", "items": _text(enum=[task.value for task in Task])},
                "models": {"type": "object", "additionalProperties": _text()},
                "runtime": _text(enum=["triton", "edge-llm", "remote"]),
                "timestamp": stamp,
            }
        ),
    }


def _wav_of_silence(milliseconds: int) -> str:
    """A 16 kHz mono WAV file in base64, short enough for a page."""
    samples = bytes(2 * 16 * milliseconds)
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    riff = struct.pack("<4sI4s", b"RIFF", 4 + len(fmt) + len(data), b"WAVE")
    return base64.b64encode(riff + fmt + data).decode("ascii")


_EXAMPLE_WAV = _wav_of_silence(10)

_EXAMPLES: dict[str, Any] = {
    "SetupRequest": {"meeting_id": 42, "models": ["asr", "emotion"]},
    "AnalyzeRequest": {
        "task_type": "speech_recognition",
        "input_data": _EXAMPLE_WAV,
        "params": {"format": "wav", "language": "en"},
        "meeting_id": "42",
        "user_id": "7",
    },
    "BatchRequest": {
        "tasks": [
            {"task_id": "1", "type": "asr", "data": {"audio_data": _EXAMPLE_WAV, "format": "wav"}},
            {"task_id": "2", "type": "emotion", "data": {"text": "I am so happy to see you"}},
        ]
    },
}
