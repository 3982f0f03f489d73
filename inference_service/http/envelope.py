"""The envelope: the JSON object around every response, for results and errors."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.types import Scope, Send

from inference_service.errors import Busy, ServiceError, Unauthorized, UnsupportedCoding
from inference_service.http import elsewhere
from inference_service.http.compression import CODINGS
from inference_service.http.openai import errors as openai_errors

JSON = "application/json"

#: Of pages and descriptions: an updated node must not be used through the page of its former version.
PAGE_HEADERS = {"cache-control": "no-cache"}

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


#: Seconds after which a client may ask again where the error does not say.
_RETRY_AFTER = 1


def error_headers(error: ServiceError) -> dict[str, str]:
    """The headers that go with the error."""
    if isinstance(error, Unauthorized):
        return {"www-authenticate": "Bearer"}
    if isinstance(error, UnsupportedCoding):
        return {"accept-encoding": ", ".join(CODINGS)}
    if error.status in (429, 503):
        return {"retry-after": str(error.retry_after if isinstance(error, Busy) else _RETRY_AFTER)}
    return {}


def success(request: Request[Any, Any, Any], data: Any) -> Response[bytes]:
    """200 with `data` in the envelope."""
    body = enveloped(200, "success", data, request_id_of(request.scope))
    return Response(body, status_code=200, media_type=JSON)


async def send_error(scope: Scope, send: Send, error: ServiceError) -> None:
    """Answer, outside of Litestar's routes, with the error's status and reason.

    A WebSocket must not be accepted yet: its client gets the answer in place of the handshake's.
    """
    body = error_body(scope, error)
    status, others = elsewhere.refusal(scope, error)
    fields = {
        "content-type": JSON,
        "content-length": str(len(body)),
        **error_headers(error),
        **others,
    }
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
    kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    await send({"type": f"{kind}.start", "status": status, "headers": headers})  # type: ignore[arg-type,misc]
    await send({"type": f"{kind}.body", "body": body, "more_body": False})  # type: ignore[arg-type,misc]
