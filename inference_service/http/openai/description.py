"""The OpenAI routes in the API's description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_service.http.openai.transcriptions import OPENAI_NAMES, PATH
from inference_service.http.upload import MULTIPART

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}


def _object(properties: dict[str, Schema], required: Sequence[str] | None = None) -> Schema:
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, **({"required": needed} if needed else {})}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_ERROR = _object(
    {
        "error": _object(
            {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": "string", "nullable": True},
                "code": {"type": "string", "nullable": True},
            }
        )
    }
)

_REASONS = {
    400: "A field or the recording is wrong; the message says which and why",
    401: "Missing or wrong API key",
    404: "No such model",
    408: "The form came too slowly",
    413: "The form or the audio is too large",
    415: "The form is compressed",
    501: "The node's runtime cannot do this",
    503: "The node is full or about to stop, or the model or runtime is not ready",
    504: "The runtime took too long",
}

_FORM = _object(
    {
        "file": {"type": "string", "format": "binary", "description": "WAV, FLAC, OGG, MP3, …"},
        "model": {**_TEXT, "description": f"asr, or one of OpenAI's names: {', '.join(OPENAI_NAMES)}"},
        "language": {**_TEXT, "description": "The language spoken, when known"},
        "prompt": {**_TEXT, "description": "Earlier text, or names that may come"},
        "temperature": {**_NUMBER, "minimum": 0, "maximum": 1},
        "response_format": {**_TEXT, "enum": ["json", "text", "srt", "verbose_json", "vtt"]},
        "timestamp_granularities[]": {
            **_list({**_TEXT, "enum": ["segment", "word"]}),
            "description": "With verbose_json",
        },
        "stream": {
            "type": "boolean",
            "description": "Server-sent events: transcript.text.delta, at last transcript.text.done",
        },
    },
    ["file", "model"],
)

_WORD = _object({"word": _TEXT, "start": _NUMBER, "end": _NUMBER})
_SEGMENT = _object(
    {
        "id": _INTEGER,
        "seek": _INTEGER,
        "start": _NUMBER,
        "end": _NUMBER,
        "text": _TEXT,
        "tokens": _list(_INTEGER),
        "temperature": _NUMBER,
        "avg_logprob": _NUMBER,
        "compression_ratio": _NUMBER,
        "no_speech_prob": _NUMBER,
    }
)
_TRANSCRIPTION = _object(
    {
        "text": _TEXT,
        "task": _TEXT,
        "language": _TEXT,
        "duration": _NUMBER,
        "segments": _list(_SEGMENT),
        "words": _list(_WORD),
    },
    ["text"],
)
_MODEL = _object({"id": _TEXT, "object": _TEXT, "created": _INTEGER, "owned_by": _TEXT})


def _responses(content: dict[str, Schema], errors: Sequence[int]) -> dict[str, Any]:
    found = {kind: {"schema": schema} for kind, schema in content.items()}
    refused = {"application/json": {"schema": _ERROR}}
    return {
        "200": {"description": "success", "content": found},
        **{str(status): {"description": _REASONS[status], "content": refused} for status in errors},
    }


PATHS: dict[str, Any] = {
    PATH: {
        "post": {
            "summary": "Speech recognition as OpenAI's audio API has it",
            "requestBody": {
                "required": True,
                "content": {
                    MULTIPART: {
                        "schema": _FORM,
                        "example": {"file": "(a recording)", "model": "asr", "response_format": "srt"},
                    }
                },
            },
            "responses": _responses(
                {
                    "application/json": _TRANSCRIPTION,
                    "text/plain": _TEXT,
                    "application/x-subrip": _TEXT,
                    "text/vtt": _TEXT,
                    "text/event-stream": _TEXT,
                },
                list(_REASONS),
            ),
        }
    },
    "/v1/models": {
        "get": {
            "summary": "The names by which speech recognition can be asked for",
            "responses": _responses(
                {"application/json": _object({"object": _TEXT, "data": _list(_MODEL)})}, [401, 503]
            ),
        }
    },
    "/v1/models/{name}": {
        "get": {
            "summary": "One of them",
            "parameters": [
                {"name": "name", "in": "path", "required": True, "schema": _TEXT, "example": "asr"}
            ],
            "responses": _responses({"application/json": _MODEL}, [401, 404, 503]),
        }
    },
}
