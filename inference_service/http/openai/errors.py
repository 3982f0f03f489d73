"""Refusals on the OpenAI routes, in the shape that OpenAI's clients read."""

import re

import msgspec

from inference_service.errors import BadRequest, ServiceError

#: The prefix of the routes that answer with OpenAI's error object. All others use the envelope.
PREFIX = "/v1/"

#: How a reason begins that names its field, perhaps after the name of the model that refused.
_NAMED = re.compile(
    r"(?:[\w-]{1,40}: )?(audio|file|hotwords|language|languages|model|options\.\w+|prompt|temperature): "
)
#: The form's names of what the service and the model call otherwise.
_FIELDS = {"audio": "file", "options.task": "model", "options.languages": "languages"}

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}


class FieldRefused(BadRequest):
    """The field `param` of a request is wrong. `code` is OpenAI's word for the kind of mistake."""

    def __init__(self, param: str, reason: str, code: str = "invalid_value") -> None:
        super().__init__(f"{param}: {reason}")
        self.param = param
        self.code = code


class ErrorDetail(msgspec.Struct, frozen=True):
    """Why a request was refused. `param` is the field that the reason names."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    error: ErrorDetail


def error_detail(error: ServiceError) -> ErrorDetail:
    """What OpenAI's clients read of `error`."""
    detail = error_answer(error.status, str(error)).error
    code, param = getattr(error, "code", None), getattr(error, "param", None)
    return msgspec.structs.replace(detail, code=code or detail.code, param=param or detail.param)


def error_answer(status: int, reason: str) -> ErrorAnswer:
    """Return the error object for `reason` with the HTTP `status`."""
    named = _NAMED.match(reason) if status in (400, 404) else None
    return ErrorAnswer(
        ErrorDetail(
            message=reason,
            type=_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
            param=_FIELDS.get(named[1], named[1]) if named else None,
            code="invalid_value" if named and status == 400 else _CODES.get(status),
        )
    )
