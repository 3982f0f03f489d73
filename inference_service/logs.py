"""Structured logs: one JSON object per line on standard output, with the request's id if there is one."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from litestar.types import Scope

#: The attributes of every LogRecord; the others came through `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}

_encode = msgspec.json.Encoder(enc_hook=str).encode

#: Seconds for which access lines are buffered, to be written together.
_HOLD = 0.2
#: The largest number of buffered bytes.
_HOLD_BYTES = 64 * 1024


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
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line).decode("utf-8")


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


class _Access(msgspec.Struct):
    time: str
    level: str
    message: str
    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    client: str
    pid: int


class _AccessLog:
    """Access lines, written several at a time: one write per request costs too much at a thousand requests a
    second."""

    def __init__(self) -> None:
        self._lines = bytearray()
        self._flush: asyncio.TimerHandle | None = None

    def add(self, line: bytes) -> None:
        self._lines += line
        self._lines += b"\n"
        if len(self._lines) >= _HOLD_BYTES:
            self.flush()
        elif self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_HOLD, self.flush)

    def flush(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        lines, self._lines = self._lines, bytearray()
        sys.stdout.flush()
        while lines:
            del lines[: os.write(sys.stdout.fileno(), lines)]


_access_log = _AccessLog()
_pid = os.getpid()


def access(scope: Scope, request_id: str, status: str, seconds: float) -> None:
    """Log one answered request (at level info)."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        return
    client = scope.get("client")
    _access_log.add(
        _encode(
            _Access(
                time=_time(None),
                level="info",
                message="request",
                request_id=request_id,
                method=scope["method"],  # type: ignore[typeddict-item]
                path=scope["path"][:500],
                status=int(status) if status.isdigit() else 0,
                seconds=round(seconds, 6),
                client=client[0] if client else "",
                pid=_pid,
            )
        )
    )


def flush_access() -> None:
    """Write the buffered access lines."""
    _access_log.flush()


def _time(seconds: float | None) -> str:
    at = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
