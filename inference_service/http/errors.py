"""How what Litestar and the handlers raise becomes an envelope."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import Scope

from inference_service.errors import ServiceError
from inference_service.http.envelope import error_headers, refusal, request_id_of

_log = logging.getLogger(__name__)


def service_error(request: Request[Any, Any, Any], error: ServiceError) -> Response[bytes]:
    """A refusal of ours."""
    return _response(request, error.status, str(error), error_headers(error))


def http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """A refusal of Litestar's: no such route, or not for this method."""
    reasons = {
        404: f"there is no {request.url.path[:200]}",
        405: f"{request.url.path} does not take {request.method}",
    }
    return _response(
        request, error.status_code, reasons.get(error.status_code, error.detail), error.headers or {}
    )


def internal_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A bug in a handler that Litestar calls."""
    return _response(request, 500, bug(request.scope, error), {})


def bug(scope: Scope, error: Exception) -> str:
    """Log a bug with its traceback; gives what the client is told, in an envelope all the same."""
    request_id = request_id_of(scope)
    _log.error("a request failed on a bug", exc_info=error, extra={"request_id": request_id})
    return f"internal error ({type(error).__name__}); the node's log has it under this request id"


def _response(
    request: Request[Any, Any, Any], status: int, reason: str, headers: dict[str, str]
) -> Response[bytes]:
    body = refusal(request.scope, status, reason)
    return Response(body, status_code=status, headers=headers, media_type="application/json")
