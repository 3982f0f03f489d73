"""The OpenAI routes in the API's description."""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from inference_service import audio_formats
from inference_service.http import openapi_examples as examples
from inference_service.http import schemas
from inference_service.http.openai.answers import Model, ModelList, Transcription
from inference_service.http.openai.errors import ErrorAnswer
from inference_service.http.openai.form import Format, Granularity
from inference_service.http.openai.names import OPENAI_NAMES
from inference_service.http.openai.transcriptions import TRANSCRIPTIONS, TRANSLATIONS
from inference_service.http.schemas import TEXT, Schema, object_schema, reference
from inference_service.http.upload import MULTIPART

#: The types whose schemas `PATHS` refers to.
TYPES: Sequence[type[msgspec.Struct]] = (Transcription, Model, ModelList, ErrorAnswer)

_REASONS = {
    400: "A field or the recording is wrong; the message says which and why",
    401: "Missing or wrong API key",
    404: "No such model",
    408: "The form came too slowly",
    413: "The form or the audio is too large",
    415: "The form is compressed in another way than gzip or deflate",
    501: "The node's runtime cannot do this",
    503: "The node is full or about to stop, or the model or runtime is not ready",
    504: "The runtime took too long",
}

_WITH_HEADER = ", ".join(each.label for each in audio_formats.WITH_HEADER)
_HEADERLESS = ", ".join(each.name for each in audio_formats.HEADERLESS if each.suffixes)
_FILE = (
    f"A recording. Its content tells its format: {_WITH_HEADER}. Of a video, the first audio track is heard. "
    f"Of audio without a header, the ending of the file's name tells the format: {_HEADERLESS}"
)

_SHARED = {
    "file": {"type": "string", "format": "binary", "description": _FILE},
    "model": {
        **TEXT,
        "description": f"asr, or one of OpenAI's names, also with a date: {', '.join(OPENAI_NAMES)}",
    },
    "prompt": {**TEXT, "description": "Earlier text, or names that may come"},
    "temperature": {"type": "number", "minimum": 0, "maximum": 1},
    "response_format": {**TEXT, "enum": list(get_args(Format))},
}

_TEXTS = {"type": "array", "items": TEXT}

_FORM = object_schema(
    {
        **_SHARED,
        "language": {**TEXT, "description": "The language spoken, when known: a code or an English name"},
        "languages[]": {**_TEXTS, "description": "The languages that may be spoken"},
        "keywords[]": {**_TEXTS, "description": "Words to expect"},
        "hotwords": {**TEXT, "description": "The same in one text; as in faster-whisper"},
        "condition_on_previous_text": {
            "type": "boolean",
            "description": "Each half a minute is recognised with the text before it, one after the other; "
            "as in faster-whisper, not in OpenAI's API",
        },
        "timestamp_granularities[]": {
            "type": "array",
            "items": {**TEXT, "enum": list(get_args(Granularity))},
            "description": "With verbose_json",
        },
        "chunking_strategy": {**TEXT, "enum": ["auto"], "description": "What this service does anyway"},
        "stream": {
            "type": "boolean",
            "description": "Server-sent events: transcript.text.delta, at last transcript.text.done",
        },
    },
    ["file", "model"],
)
_TRANSLATION_FORM = object_schema(_SHARED, ["file", "model"])


def _answers(content: dict[str, Schema], statuses: Sequence[int], shown: dict[str, Any]) -> Schema:
    error = reference(ErrorAnswer)
    return schemas.answers(content, error, _REASONS, statuses, shown, examples.refused_by_openai)


def _operation(name: str, summary: str) -> Schema:
    return {"operationId": name, "summary": summary, "tags": ["OpenAI"]}


def _audio_route(name: str, summary: str, form: Schema, more: dict[str, Schema]) -> Schema:
    content = {
        "application/json": reference(Transcription),
        "text/plain": TEXT,
        "application/x-subrip": TEXT,
        "text/vtt": TEXT,
    }
    shown = {
        "application/json": examples.TRANSCRIPTION,
        "text/plain": examples.TEXT,
        "application/x-subrip": examples.SUBRIP,
        "text/vtt": examples.WEBVTT,
    }
    more_shown = dict.fromkeys(more, examples.EVENTS)
    example = {"file": "(a recording)", "model": "asr", "response_format": "srt"}
    return {
        "post": {
            **_operation(name, summary),
            "requestBody": {
                "required": True,
                "content": {MULTIPART: {"schema": form, "example": example}},
            },
            "responses": _answers({**content, **more}, list(_REASONS), shown | more_shown),
        }
    }


PATHS: Schema = {
    TRANSCRIPTIONS: _audio_route("transcribe", "Transcribe a recording", _FORM, {"text/event-stream": TEXT}),
    TRANSLATIONS: _audio_route(
        "translate",
        "Translate a recording into English",
        _TRANSLATION_FORM,
        {},
    ),
    "/v1/models": {
        "get": {
            **_operation("list_models", "List the names of models"),
            "responses": _answers(
                {"application/json": reference(ModelList)}, [401, 503], {"application/json": examples.MODELS}
            ),
        }
    },
    "/v1/models/{name}": {
        "get": {
            **_operation("retrieve_model", "One name of a model"),
            "parameters": [
                {"name": "name", "in": "path", "required": True, "schema": TEXT, "example": "asr"}
            ],
            "responses": _answers(
                {"application/json": reference(Model)}, [401, 404, 503], {"application/json": examples.MODEL}
            ),
        }
    },
}
