"""Structured logs: one JSON object per line on standard output, with the request's id if there is one."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from inference_service import tracing

if TYPE_CHECKING:
    from litestar.types import Scope

#: The attributes of every LogRecord; the others came through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}

_encode = msgspec.json.Encoder(enc_hook=str).encode

#: Seconds for which access lines are held, to be written together: a log record and a write for each request
#: would cost several percent of a short request.
_HOLD = 0.2
_access_lines: list[bytes] = []
#: The last lines of this worker, for the console. Of probes only those that failed.
_recent: deque[bytes] = deque(maxlen=1000)


class JsonFormatter(logging.Formatter):
    """Time (RFC 3339), level, logger, message, and the fields passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if (trace_id := tracing.trace_id()) is not None:
            line["trace_id"] = trace_id
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        text = _encode(line)
        _recent.append(text)
        return text.decode("utf-8")


def recent(lines: int) -> list[str]:
    """The last lines of this worker's log, oldest first; at most 1000."""
    return [line.decode("utf-8", "replace") for line in list(_recent)[-lines:]]


def configure(level: str) -> None:
    """Send every logger's records of `level` and above to standard output as JSON."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # These log a line for each call; the access log already has one for each request.
    for noisy in ("httpx2", "httpcore2", "asyncio"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))
    logging.getLogger("uvicorn.error").addFilter(_is_no_refused_websocket)


def _is_no_refused_websocket(record: logging.LogRecord) -> bool:
    # Uvicorn takes the refusal of a handshake for an error of the application.
    return record.msg != "ASGI callable returned without completing handshake."


def access(scope: Scope, request_id: str, status: str, seconds: float, trace_id: str | None = None) -> None:
    """Log one answered request (at level info). Call it in the event loop."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        return
    if not _access_lines:
        asyncio.get_running_loop().call_later(_HOLD, flush_access)
    client = scope.get("client")
    line = {
        "time": _time(time.time()),
        "level": "info",
        "message": "request",
        "request_id": request_id,
        "method": scope["method"],  # type: ignore[typeddict-item]
        "path": scope["path"][:500],
        "status": int(status) if status.isdigit() else 0,
        "seconds": round(seconds, 6),
        "client": client[0] if client else "",
        "pid": os.getpid(),
    }
    if trace_id is not None:
        line["trace_id"] = trace_id
    text = _encode(line)
    _access_lines.append(text + b"\n")
    if status != "200" or not scope["path"].endswith(("/health", "/metrics", "/log")):
        _recent.append(text)


def flush_access() -> None:
    """Write the held access lines."""
    lines = b"".join(_access_lines)
    _access_lines.clear()
    sys.stdout.flush()
    sys.stdout.buffer.write(lines)
    sys.stdout.buffer.flush()


def _time(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
