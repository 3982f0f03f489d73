"""Refusals on the OpenAI routes, in the shape that OpenAI's clients read."""

from __future__ import annotations

import re
from typing import Any

#: The routes that answer so; all others use the envelope.
PREFIX = "/v1/"

#: A reason that names its field begins so, perhaps after the name of the model that gives it. What the
#: service calls the audio is the form's file.
_NAMED = re.compile(
    r"(?:[\w-]{1,40}: )?"
    r"(audio|file|include|language|model|prompt|response_format|stream|temperature|timestamp_granularities): "
)

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 404: "not_found"}


def error_object(status: int, reason: str) -> dict[str, Any]:
    """OpenAI's error object; `param` is the field that the reason names."""
    named = _NAMED.match(reason) if status == 400 else None
    return {
        "error": {
            "message": reason,
            "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
            "param": named[1].replace("audio", "file") if named else None,
            "code": _CODES.get(status),
        }
    }
