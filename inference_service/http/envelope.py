"""The envelope: the JSON object around every response, for results and errors."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.types import Scope, Send

from inference_service.errors import Busy, Draining, ServiceError
from inference_service.http.openai import errors as openai_errors

JSON = "application/json"

#: Where `front` keeps the request's id in the ASGI scope.
REQUEST_ID = "inference_service.request_id"

_encode = msgspec.json.Encoder().encode


class Envelope(msgspec.Struct, frozen=True):
    """The original service's envelope; `code` repeats the HTTP status."""

    code: int
    message: Annotated[str, msgspec.Meta(description="success, or the reason")]
    data: Any
    timestamp: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    request_id: str


def now() -> str:
    """The time as RFC 3339, UTC, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def enveloped(status: int, message: str, data: Any, request_id: str) -> bytes:
    """The envelope as JSON."""
    return _encode(Envelope(status, message, data, now(), request_id))


def refusal(scope: Scope, status: int, reason: str) -> bytes:
    """An error's body: the envelope, or OpenAI's error object on OpenAI's routes."""
    if scope["path"].startswith(openai_errors.PREFIX):
        return _encode(openai_errors.error_answer(status, reason))
    return enveloped(status, reason, None, request_id_of(scope))


def error_body(scope: Scope, error: ServiceError) -> bytes:
    """The same for an error of the service, which may name its field and OpenAI's code."""
    if scope["path"].startswith(openai_errors.PREFIX):
        return _encode(openai_errors.ErrorAnswer(openai_errors.error_detail(error)))
    return enveloped(error.status, str(error), None, request_id_of(scope))


def request_id_of(scope: Scope) -> str:
    """The request's id, which `front` has put into the scope."""
    request_id: str = scope[REQUEST_ID]  # type: ignore[literal-required]
    return request_id


def error_headers(error: ServiceError) -> dict[str, str]:
    """The headers that go with the error."""
    if isinstance(error, Busy):
        return {"retry-after": str(error.retry_after)}
    if isinstance(error, Draining):
        return {"retry-after": "1"}
    return {}


def success(request: Request[Any, Any, Any], data: Any) -> Response[bytes]:
    """200 with `data` in the envelope."""
    body = enveloped(200, "success", data, request_id_of(request.scope))
    return Response(body, status_code=200, media_type=JSON)


async def send_error(scope: Scope, send: Send, error: ServiceError) -> None:
    """Answer, outside of Litestar's routes, with the error's status and reason."""
    body = error_body(scope, error)
    fields = {"content-type": JSON, "content-length": str(len(body)), **error_headers(error)}
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
