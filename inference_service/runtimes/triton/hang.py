"""Tells a Triton server that hangs from one that is slow.

A slow server still answers `ServerLive`. A stopped one answers nothing while the kernel keeps its connections
open, so its calls would wait for their deadlines. gRPC's own keepalive cannot be used for this: gRPC servers
close a connection that sends more than two pings during one long call.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from grpc.aio import UnaryUnaryCall

from inference_service.errors import NotReady, RuntimeLost

_REASON = "Triton does not answer"
_log = logging.getLogger(__name__)
_Response = TypeVar("_Response")

#: Seconds between two looks at the waiting calls. A server is polled when a call has waited for a whole one.
_INTERVAL = 1.0
#: Seconds for the answer to a poll; a server that takes longer is taken to hang.
POLL_TIMEOUT = 5.0


class HangDetector:
    """Fails the calls of a server that hangs with NotReady, and new ones at once until it answers again."""

    def __init__(self, poll: Callable[[float], Awaitable[bool]]) -> None:
        """`poll(seconds)` asks the server whether it is live: false when no answer came within `seconds`."""
        self._poll = poll
        self._calls: set[UnaryUnaryCall] = set()
        self._hangs = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch, in the running event loop."""
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def check(self) -> None:
        """Raise NotReady while the server hangs."""
        if self._hangs:
            raise NotReady(_REASON)

    async def wait_for(self, call: UnaryUnaryCall[..., _Response]) -> _Response:
        """The call's response. Raises what the call raises; RuntimeLost when the server begins to hang."""
        self._calls.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            task = asyncio.current_task()
            # `_watch` cancelled the call, and nobody cancelled this task.
            if self._hangs and (task is None or not task.cancelling()):
                raise RuntimeLost(_REASON) from None
            raise
        finally:
            self._calls.discard(call)

    async def _watch(self) -> None:
        earlier: set[UnaryUnaryCall] = set()
        while True:
            await asyncio.sleep(_INTERVAL)
            if self._hangs or earlier & self._calls:
                live = await self._poll(POLL_TIMEOUT)
                if self._hangs == live:
                    self._hangs = not live
                    _log.warning("Triton answers again" if live else "Triton hangs: its calls fail")
                if self._hangs:
                    for call in self._calls:
                        call.cancel()
            earlier = set(self._calls)
