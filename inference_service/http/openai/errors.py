"""Refusals on the OpenAI routes, in the shape that OpenAI's clients read."""

import re

import msgspec

#: The prefix of the routes that answer with OpenAI's error object. All others use the envelope.
PREFIX = "/v1/"

#: How a reason begins that names its field, perhaps after the name of the model that refused. The field that
#: the service calls `audio` is the form's `file`.
_NAMED = re.compile(
    r"(?:[\w-]{1,40}: )?"
    r"(audio|file|include|language|model|prompt|response_format|stream|temperature|timestamp_granularities): "
)

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 404: "not_found"}


class ErrorDetail(msgspec.Struct, frozen=True):
    """Why a request was refused. `param` is the field that the reason names."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    error: ErrorDetail


def error_answer(status: int, reason: str) -> ErrorAnswer:
    """Return the error object for `reason` with the HTTP `status`."""
    named = _NAMED.match(reason) if status == 400 else None
    return ErrorAnswer(
        ErrorDetail(
            message=reason,
            type=_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
            param=named[1].replace("audio", "file") if named else None,
            code=_CODES.get(status),
        )
    )
