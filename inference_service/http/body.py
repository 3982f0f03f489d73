"""Reads request bodies within limits of size and time, and detects clients that disconnect."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from litestar.types import Receive, Scope

from inference_service.errors import BadRequest, SlowUpload, TooLarge

_T = TypeVar("_T")

#: Seconds after which a running request starts a watcher for its client's disconnect. Shorter requests end
#: before a cancellation would save anything.
WATCH_AFTER = 0.05


class ClientGone(Exception):
    """The client closed the connection, so there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header called `name` (in lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """Read the whole body.

    Raises TooLarge as soon as the body exceeds `max_bytes` (if Content-Length says so, before reading it),
    SlowUpload if it does not arrive within `seconds`, and ClientGone.
    """
    content_length = header(scope, b"content-length")
    if content_length is not None:
        if not content_length.isdigit():
            raise BadRequest("Content-Length is not a number")
        if int(content_length) > max_bytes:
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
    """Await `work`. If the client disconnects meanwhile, cancel the work and raise ClientGone."""
    task = asyncio.current_task()
    assert task is not None
    gone = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        # The body has been read, so the next message can only be the disconnect.
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
            # The work ended at the same moment: receive the cancellation here, not at a later await.
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
