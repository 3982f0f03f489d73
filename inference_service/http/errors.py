"""Litestar's exception handlers: what routes and handlers raise becomes a response."""

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from inference_service.errors import ServiceError
from inference_service.http import elsewhere
from inference_service.http.body import ClientGone
from inference_service.http.envelope import JSON, error_body, error_headers, refusal, request_id_of

_log = logging.getLogger(__name__)


def service_error(request: Request[Any, Any, Any], error: ServiceError) -> Response[bytes]:
    """An error that a handler raised on purpose."""
    status, others = elsewhere.refusal(request.scope, error)
    return Response(
        error_body(request.scope, error),
        status_code=status,
        headers={**error_headers(error), **others},
        media_type=JSON,
    )


def http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """An error of Litestar's router: no such route, or no such method on it."""
    path = request.url.path[:200]
    headers = dict(error.headers or {})
    allowed = headers.get("allow", "").split(", ")
    if error.status_code == 404:
        return _response(request, 404, f"there is no {path}", headers)
    if error.status_code == 405 and "websocket" in allowed:
        reason = f"{path} is a WebSocket; open it as one"
        return _response(request, 426, reason, {"upgrade": "websocket", "connection": "upgrade"})
    if error.status_code == 405:
        if "GET" in allowed:  # `front` answers HEAD as GET without the body
            headers["allow"] = ", ".join([*allowed, "HEAD"])
        return _response(request, 405, f"{path} does not take {request.method}", headers)
    return _response(request, error.status_code, error.detail, headers)


def internal_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A bug: its traceback goes to the log, its type to the client."""
    extra = {"request_id": request_id_of(request.scope)}
    _log.error("a request failed on a bug", exc_info=error, extra=extra)
    reason = f"internal error ({type(error).__name__}); the node's log has it under this request id"
    return _response(request, 500, reason, {})


def client_gone(_: Request[Any, Any, Any], __: ClientGone) -> Response[None]:
    """The client closed the connection: nginx's status for that, which nobody receives."""
    return Response(None, status_code=499)


def _response(
    request: Request[Any, Any, Any], status: int, reason: str, headers: dict[str, str]
) -> Response[bytes]:
    body = refusal(request.scope, status, reason)
    return Response(body, status_code=status, headers=headers, media_type=JSON)
