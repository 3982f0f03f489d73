"""The API's description (OpenAPI 3.0) and its page, which loads nothing from elsewhere.

The schemas come from the msgspec types. The operations are written here and not derived from the handlers:
one route takes JSON, raw audio and forms, which no signature expresses. Property tests check the service
against the description.
"""

import base64
import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from inference_service import __version__, audio_formats
from inference_service.audio import wav
from inference_service.engine import Engine
from inference_service.http import schemas
from inference_service.http.analysis import BASE, AnalyzeAnswer, BatchAnswer, SetupAnswer
from inference_service.http.envelope import PAGE_HEADERS, Envelope
from inference_service.http.openai import description as openai_description
from inference_service.http.requests import (
    MAX_COUNT,
    AnalyzeRequest,
    AudioRequest,
    BatchRequest,
    SetupRequest,
)
from inference_service.http.schemas import TEXT, Schema, object_schema, reference
from inference_service.http.status import Health, Info, Log, ProcessHealth
from inference_service.http.upload import AUDIO_TYPES, MULTIPART
from inference_service.settings import RequestSettings
from inference_service.tasks import EmotionResult, SynthesisResult, Transcript


def routes(engine: Engine) -> Sequence[HTTPRouteHandler]:
    """Return the routes of the description (/openapi.json) and its page (/docs), also under the base that
    gateways forward."""

    @get(["/openapi.json", f"{BASE}/openapi.json"])
    async def description() -> Response[bytes]:
        body = msgspec.json.encode(document(engine.settings.ai.request))
        return Response(body, media_type="application/json", headers=PAGE_HEADERS)

    @get(["/docs", f"{BASE}/docs"])
    async def page() -> Response[str]:
        return Response(_PAGE, media_type="text/html", headers=PAGE_HEADERS)

    @get(["/docs/{name:str}", f"{BASE}/docs/{{name:str}}"])
    async def asset(name: FromPath[str]) -> Response[bytes]:
        if name not in _ASSETS:
            raise NotFoundException
        content = (_swagger_ui() / name).read_bytes()
        return Response(content, media_type=_ASSETS[name], headers=_ASSET_HEADERS)

    return [description, page, asset]


#: The page's files change only with the service's version; a day later every browser has the new ones.
_ASSET_HEADERS = {"cache-control": "public, max-age=86400"}
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
    """Return the folder of Swagger UI's files, without an import of the package, which costs memory."""
    spec = importlib.util.find_spec("swagger_ui_bundle")
    assert spec is not None and spec.origin is not None
    return next((Path(spec.origin).parent / "vendor").glob("swagger-ui-*"))


@cache
def document(limits: RequestSettings) -> Schema:
    """Return the whole description of a service with these `limits`."""
    components = schemas.components([*_TYPES, *openai_description.TYPES])
    components["BatchRequest"]["properties"]["tasks"]["maxItems"] = limits.max_batch_tasks
    paths: Schema = {
        "/health": {"get": _process_health()},
        "/metrics": {"get": _metrics()},
        f"{BASE}/health": {"get": _status("Whether this node can answer now", Health, [503], key=False)},
        f"{BASE}/info": {"get": _status("What this node offers", Info, [401])},
        f"{BASE}/log": {"get": _log()},
        f"{BASE}/asr": {"post": _audio_route("Speech recognition", Transcript)},
        f"{BASE}/emotion": {"post": _audio_route("Emotion of speech or of text", EmotionResult)},
        f"{BASE}/synthesis": {"post": _audio_route("Synthetic speech detection", SynthesisResult)},
        f"{BASE}/setup": {"post": _json_route("Warm the models", SetupRequest, SetupAnswer)},
        f"{BASE}/analyze": {"post": _json_route("One task by name", AnalyzeRequest, AnalyzeAnswer)},
        f"{BASE}/batch": {"post": _json_route("Several tasks at once", BatchRequest, BatchAnswer)},
        **openai_description.PATHS,
    }
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "AI inference service",
            "version": __version__,
            "description": "Speech recognition, emotion detection and synthetic-speech detection. A result "
            "has the `kind` of its model (`neural`, `rule` or `lexicon`) and its `caveat`, which is what the "
            "model's answers cannot be trusted with. What the model does not say is absent. "
            f"`{BASE}/info` says more of each model. Every "
            "answer but /health, /metrics and OpenAI's routes under /v1 is in one envelope; `request_id` "
            f"echoes `X-Request-ID`. Live audio goes over the WebSocket {BASE}/stream, or over gRPC.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        # Either key, or none where the node requires none.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


_TYPES = (
    Envelope,
    ProcessHealth,
    Health,
    Info,
    Log,
    AudioRequest,
    SetupRequest,
    AnalyzeRequest,
    BatchRequest,
    Transcript,
    EmotionResult,
    SynthesisResult,
    SetupAnswer,
    AnalyzeAnswer,
    BatchAnswer,
)

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


def _answers(data: type[msgspec.Struct], statuses: Sequence[int]) -> Schema:
    """Return the answers of a route that answers `data` in the envelope."""
    envelope = {"allOf": [reference(Envelope), object_schema({"data": reference(data)}, ["data"])]}
    return schemas.answers({"application/json": envelope}, reference(Envelope), _REASONS, statuses)


def _status(summary: str, data: type[msgspec.Struct], statuses: Sequence[int], *, key: bool = True) -> Schema:
    operation = {"summary": summary, "responses": _answers(data, statuses)}
    return operation if key else {**operation, "security": []}


def _log() -> Schema:
    lines = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200}
    return {
        **_status("The last lines of one worker's log", Log, [400, 401]),
        "parameters": [{"name": "lines", "in": "query", "description": "How many", "schema": lines}],
    }


def _process_health() -> Schema:
    content = {"application/json": {"schema": reference(ProcessHealth)}}
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
        "responses": {"200": {"description": "metrics", "content": {"text/plain": {"schema": TEXT}}}},
    }


def _audio_route(summary: str, data: type[msgspec.Struct]) -> Schema:
    request: Schema = reference(AudioRequest)
    examples: Schema = {"wav": {"summary": "A WAV file in base64", "value": _EXAMPLE_AUDIO}}
    if data is EmotionResult:
        examples["text"] = {"summary": "Text", "value": _EXAMPLE_TEXT}
    else:
        request = {"allOf": [request, {"required": ["audio_data"]}]}
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        "summary": summary,
        "description": "Audio as base64 in JSON, as the body itself (without a header it is described by the "
        "query), or as a file of a form.",
        "parameters": [
            {"name": name, "in": "query", "description": description, "schema": schema, "example": example}
            for name, (schema, description, example) in _AUDIO_FIELDS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request, "examples": examples},
                MULTIPART: {
                    "schema": object_schema(
                        {
                            "file": {**TEXT, "format": "binary", "description": "The recording"},
                            **dict.fromkeys(_AUDIO_FIELDS, TEXT),
                        },
                        ["file"],
                    ),
                    "example": {"file": "(a recording)", "language": "en"},
                },
                **dict.fromkeys(AUDIO_TYPES, binary),
            },
        },
        "responses": _answers(data, list(_REASONS)),
    }


def _json_route(summary: str, request: type[msgspec.Struct], data: type[msgspec.Struct]) -> Schema:
    required, example = _JSON_BODIES[request]
    schema = {"allOf": [reference(request), {"required": required}]} if required else reference(request)
    return {
        "summary": summary,
        "requestBody": {
            "required": bool(required),
            "content": {"application/json": {"schema": schema, "example": example}},
        },
        "responses": _answers(data, list(_REASONS)),
    }


_COUNT = {"type": "integer", "minimum": 0, "maximum": MAX_COUNT}

# Of the query and of forms: schema, description, example.
_AUDIO_FIELDS: dict[str, tuple[Schema, str, Any]] = {
    "format": (TEXT, audio_formats.FIELD, "pcm"),
    "sample_rate": (_COUNT, audio_formats.RATE_FIELD, 16000),
    "channels": (_COUNT, audio_formats.CHANNELS_FIELD, 1),
    "language": (TEXT, "The language spoken, when known", "en"),
    "meeting_id": (TEXT, "The meeting that the audio belongs to", "42"),
}

# Ten milliseconds of silence: short enough for a page.
_EXAMPLE_WAV = base64.b64encode(wav.header(wav.PCM, 1, 16000, 2, 320) + bytes(320)).decode("ascii")
_EXAMPLE_AUDIO = {"audio_data": _EXAMPLE_WAV, "format": "wav", "sample_rate": 16000, "meeting_id": 42}
_EXAMPLE_TEXT = {"text": "I am so happy to see you"}

# Required fields and an example. The types have defaults, so that an error can name the missing field.
_JSON_BODIES: dict[type[msgspec.Struct], tuple[list[str], Schema]] = {
    SetupRequest: ([], {"meeting_id": 42, "models": ["asr", "emotion"]}),
    AnalyzeRequest: (
        ["task_type", "input_data"],
        {
            "task_type": "speech_recognition",
            "input_data": _EXAMPLE_WAV,
            "params": {"format": "wav", "language": "en"},
            "meeting_id": "42",
            "user_id": "7",
        },
    ),
    BatchRequest: (
        ["tasks"],
        {
            "tasks": [
                {"task_id": "1", "type": "asr", "data": {"audio_data": _EXAMPLE_WAV, "format": "wav"}},
                {"task_id": "2", "type": "emotion", "data": _EXAMPLE_TEXT},
            ]
        },
    ),
}
