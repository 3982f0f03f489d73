"""The API's description (OpenAPI 3.1).

The schemas come from the msgspec types. The operations are written here and not derived from the handlers:
one route takes JSON, raw audio and forms, which no signature expresses. Property tests check the service
against the description.
"""

import base64
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from inference_service import __version__, audio_formats
from inference_service.audio import wav
from inference_service.http import openapi_examples as examples
from inference_service.http import schemas
from inference_service.http.analysis import BASE, AnalyzeAnswer, BatchAnswer, SetupAnswer
from inference_service.http.envelope import Envelope
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


@cache
def document(limits: RequestSettings, root: str = ".", *, at_gateway: bool = False) -> Schema:
    """Return the whole description of a service with these `limits`.

    `root` is the server's address, relative to the document's, so that it holds under any path of a proxy.
    `at_gateway`: without the routes of a node that the gateway does not pass on.
    """
    components = schemas.components([*_TYPES, *openai_description.TYPES])
    components["BatchRequest"]["properties"]["tasks"]["maxItems"] = limits.max_batch_tasks
    paths: Schema = {
        **openai_description.PATHS,
        f"{BASE}/asr": {"post": _audio_route("recognise", "Recognise speech", Transcript)},
        f"{BASE}/emotion": {"post": _audio_route("emotion", "Emotion of a voice or a text", EmotionResult)},
        f"{BASE}/synthesis": {"post": _audio_route("synthesis", "Detect synthetic speech", SynthesisResult)},
        f"{BASE}/analyze": {
            "post": _json_route("analyze", "Do one task by name", AnalyzeRequest, AnalyzeAnswer, "Tasks")
        },
        f"{BASE}/batch": {
            "post": _json_route("batch", "Do several tasks at once", BatchRequest, BatchAnswer, "Tasks")
        },
        f"{BASE}/setup": {"post": _json_route("setup", "Warm the models", SetupRequest, SetupAnswer, "Node")},
        f"{BASE}/health": {
            "get": _status("health", "Whether this node can answer now", Health, [503], key=False)
        },
        f"{BASE}/info": {"get": _status("info", "What this node offers", Info, [401])},
        f"{BASE}/log": {"get": _log()},
    }
    if not at_gateway:
        paths |= {"/health": {"get": _process_health()}, "/metrics": {"get": _metrics()}}
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "AI inference service",
            "version": __version__,
            "summary": "Speech recognition, emotion detection and synthetic-speech detection",
            "description": _DESCRIPTION,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root, "description": "Where this description is from"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        # Either key, or none where the node requires none.
        "security": [{}, {"bearer": []}, {"key": []}],
    }


_DESCRIPTION = f"""Speech recognition, emotion detection and synthetic-speech detection.

- **OpenAI's clients** work as they are: their `base_url` is this server's address and `/v1`.
- **Every other route** answers in one envelope: `code` is the HTTP status, `message` is *success* or the
  reason, `data` is the result, and `request_id` echoes `X-Request-ID`. Only /health and /metrics have none.
- **Recordings** are sent as the body, as a file of a form, or in base64 in JSON. Their content tells their
  format.
- **Live audio** goes over the WebSockets `{BASE}/stream` and `/v1/realtime`, or over gRPC.
- **Keys**, where the fleet has some: `Authorization: Bearer KEY` or `X-API-Key: KEY`.
- **A result says what it is worth**: it has the `kind` of its model (`neural`, `rule` or `lexicon`) and its
  `caveat`, which is what the model's answers cannot be trusted with. What the model does not say is absent;
  `{BASE}/info` says more.
- **503** means that the node is full: wait for the seconds in `Retry-After`, and send the request again.
"""

_TAGS = {
    "OpenAI": "What OpenAI's clients call. Errors are OpenAI's error object.",
    "Tasks": "Speech recognition, emotion and synthetic speech. Answers and errors are in one envelope.",
    "Node": "What a node offers and how it is.",
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
    shown = {"application/json": examples.enveloped(examples.DATA[data])} if data in examples.DATA else {}
    return schemas.answers(
        {"application/json": envelope}, reference(Envelope), _REASONS, statuses, shown, examples.refused
    )


def _operation(name: str, summary: str, tag: str) -> Schema:
    return {"operationId": name, "summary": summary, "tags": [tag]}


def _status(
    name: str, summary: str, data: type[msgspec.Struct], statuses: Sequence[int], *, key: bool = True
) -> Schema:
    operation = {**_operation(name, summary, "Node"), "responses": _answers(data, statuses)}
    return operation if key else {**operation, "security": []}


def _log() -> Schema:
    lines = {"type": "integer", "minimum": 1, "maximum": 1000, "default": 200}
    return {
        **_status("log", "The last lines of one worker's log", Log, [400, 401]),
        "parameters": [{"name": "lines", "in": "query", "description": "How many", "schema": lines}],
    }


def _process_health() -> Schema:
    content = {"application/json": {"schema": reference(ProcessHealth)}}
    return {
        **_operation("process_health", "Whether the process is up", "Node"),
        "security": [],
        "responses": {
            "200": {"description": "up", "content": content},
            "503": {"description": "about to stop", "content": content},
        },
    }


def _metrics() -> Schema:
    return {
        **_operation("metrics", "Prometheus metrics of the node", "Node"),
        "security": [],
        "responses": {"200": {"description": "metrics", "content": {"text/plain": {"schema": TEXT}}}},
    }


def _audio_route(name: str, summary: str, data: type[msgspec.Struct]) -> Schema:
    request: Schema = reference(AudioRequest)
    bodies: Schema = {"wav": {"summary": "A WAV file in base64", "value": _EXAMPLE_AUDIO}}
    if data is EmotionResult:
        bodies["text"] = {"summary": "Text", "value": _EXAMPLE_TEXT}
    else:
        request = {"allOf": [request, {"required": ["audio_data"]}]}
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {
        **_operation(name, summary, "Tasks"),
        "description": "Audio as base64 in JSON, as the body itself (without a header it is described by the "
        "query), or as a file of a form.",
        "parameters": [
            {"name": name, "in": "query", "description": description, "schema": schema, "example": example}
            for name, (schema, description, example) in _AUDIO_FIELDS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request, "examples": bodies},
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


def _json_route(
    name: str, summary: str, request: type[msgspec.Struct], data: type[msgspec.Struct], tag: str
) -> Schema:
    required, example = _JSON_BODIES[request]
    schema = {"allOf": [reference(request), {"required": required}]} if required else reference(request)
    return {
        **_operation(name, summary, tag),
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
