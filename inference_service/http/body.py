"""A request's body, within its limits of size and time, and the client that goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from litestar.types import Receive, Scope

from inference_service.errors import BadRequest, SlowUpload, TooLarge

_T = TypeVar("_T")

#: Seconds after which a running request begins to watch whether its client is still there. Shorter ones are
#: not worth the watcher: they end before their client could be missed.
WATCH_AFTER = 0.05


class ClientGone(Exception):
    """The client closed the connection; nobody is there to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header called `name` (in lower case)."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to be over `max_bytes` (from Content-Length
    before anything is read), SlowUpload when it is not there within `seconds`, ClientGone."""
    declared = header(scope, b"content-length")
    if declared is not None:
        if not declared.isdigit():
            raise BadRequest("Content-Length is not a number")
        if int(declared) > max_bytes:
            raise _too_large(max_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message: Any = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise SlowUpload(f"the body did not arrive within {seconds:g} s") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {max_bytes} bytes, the most allowed")


async def unless_client_leaves(receive: Receive, work: Awaitable[_T]) -> _T:
    """Await `work`; when the client goes away meanwhile, cancel it and raise ClientGone."""
    task = asyncio.current_task()
    assert task is not None
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        # The body was read to its end: what comes now can only be the disconnect.
        if (await receive())["type"] == "http.disconnect":
            gone = True
            task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(WATCH_AFTER, begin)
    try:
        answer = await work
        if gone:
            # The work ended in the same moment; take the cancellation here, not somewhere later.
            await asyncio.sleep(0)
        return answer
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
