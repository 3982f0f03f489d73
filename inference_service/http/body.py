"""Reads request bodies within limits of size and time, and detects clients that disconnect."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from litestar.types import Receive, Scope

from inference_service import budget
from inference_service.budget import Lease
from inference_service.errors import BadRequest, SlowUpload, TooLarge

_T = TypeVar("_T")

#: Seconds after which a running request starts a watcher for its client's disconnect. Shorter requests end
#: before a cancellation would save anything.
WATCH_AFTER = 0.05

#: Bytes that uvicorn hands over at once: it stops reading a connection when 64 KiB wait, and its last read
#: of the socket may have brought 256 KiB more.
_NEXT_PART = 320 * 1024

#: Bytes whose copy would block the event loop for a part of a millisecond.
_LARGE = 1 << 20


class ClientGone(Exception):
    """The client closed the connection, so there is nobody to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header called `name` (in lower case), or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None


def via_of(scope: Scope) -> str:
    """The nodes and proxies that forwarded the request: its `Via` headers in one, "" without any."""
    return ", ".join(value.decode("latin-1") for key, value in scope["headers"] if key == b"via")


async def read_body(scope: Scope, receive: Receive, *, max_bytes: int, seconds: float) -> bytes:
    """Read the whole body, which the request's lease of the byte budget holds from then on.

    Raises TooLarge as soon as the body exceeds `max_bytes`, and Busy as soon as the budget has no room for it
    (if Content-Length says so, before reading it), SlowUpload if it does not arrive within `seconds`, and
    ClientGone.
    """
    lease = budget.current()
    declared = _content_length(scope)
    if declared is not None:
        if declared > max_bytes:
            raise _too_large(max_bytes)
        with lease.briefly(declared):
            pass  # a body that does not fit now is refused before the client has sent it
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                # Only the next part: many uploads that stall must not hold what they only announce.
                expected = _NEXT_PART if declared is None else min(_NEXT_PART, declared - size)
                lease.take(expected)
                message: Any = await receive()
                lease.give(expected)
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                lease.take(len(part))
                parts.append(part)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise SlowUpload(f"the body did not arrive within {seconds:g} s") from None
    return await _joined(parts, size, lease)


async def _joined(parts: list[bytes], size: int, lease: Lease) -> bytes:
    if len(parts) == 1:
        return parts[0]
    with lease.briefly(size):  # until `parts` are dropped
        # bytes.join releases the interpreter's lock for a megabyte and more.
        body = b"".join(parts) if size < _LARGE else await asyncio.to_thread(b"".join, parts)
        parts.clear()
    return body


def _content_length(scope: Scope) -> int | None:
    text = header(scope, b"content-length")
    if text is None:
        return None
    if not text.isdigit():
        raise BadRequest("Content-Length is not a number")
    return int(text)


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
