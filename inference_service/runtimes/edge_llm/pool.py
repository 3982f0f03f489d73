"""Sessions by (meeting, model): one request each at a time, a bounded number, closed when idle."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from inference_service.errors import NotReady, RuntimeLost, ServiceError
from inference_service.runtimes.edge_llm.connection import SessionLost
from inference_service.runtimes.edge_llm.session import Session

T = TypeVar("T")
Key = tuple[str, str]  # meeting, model

#: Requests in a row that a session serves for its own meeting while others wait for a place.
MAX_HANDOVERS: Final = 8

#: Seconds that `close` waits for units to answer their exit.
CLOSE_LINGER: Final = 1.0


@dataclass(eq=False, slots=True)
class _Slot:
    """A slot for one session. It is taken while a request uses it, or until an abandoned request has
    ended."""

    key: Key
    last_used: float
    free: bool = False
    handovers: int = 0
    session: Session | None = None
    opening: asyncio.Task[Session] | None = None


class SessionPool:
    """Opens sessions on demand and keeps them for the next request of the same meeting and model."""

    def __init__(
        self,
        open_session: Callable[[str], Coroutine[Any, Any, Session]],
        *,
        max_sessions: int,
        idle_timeout: float,
        clock: Callable[[], float],
        on_lost: Callable[[Session], None] = lambda session: None,
    ) -> None:
        """`open_session(model)` opens one. `idle_timeout` is in seconds of `clock`. `on_lost` is called with
        every session that closed without an exit message."""
        self._open_session = open_session
        self._max_sessions = max_sessions
        self._idle_timeout = idle_timeout
        self._clock = clock
        self._on_lost = on_lost
        self._slots: dict[Key, _Slot] = {}
        #: The waiting requests in order, by the future that grants each its slot.
        self._waiters: dict[asyncio.Future[_Slot], Key] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """The number of sessions, including those that are being opened or settled."""
        return len(self._slots)

    async def run(self, meeting: str, model: str, work: Callable[[Session], Awaitable[T]]) -> T:
        """Run `work(session)` with exclusive use of the session of this meeting and model.

        A lost session is rebuilt once, and `work` is repeated. If it is lost again, raises NotReady. Waits
        for the session, and for a slot for it.
        """
        slot = await self._acquire((meeting, model))
        try:
            if slot.session is not None and not slot.session.usable:
                self._discard(slot)
            try:
                return await work(await self._session(slot))
            except SessionLost:
                self._discard(slot)
            try:
                return await work(await self._session(slot))
            except SessionLost as lost:
                self._discard(slot)
                raise RuntimeLost(f"the session with {model} was lost twice: {lost}") from None
        finally:
            self._release(slot)

    def expire_idle(self) -> None:
        """Close the sessions without a request for the idle time."""
        now = self._clock()
        for slot in [slot for slot in self._slots.values() if slot.free]:
            if now - slot.last_used >= self._idle_timeout:
                self._evict(slot)
        self._dispatch()

    def drop_lost(self) -> None:
        """Close the unused sessions whose connection broke, and call `on_lost` with each."""
        for slot in [slot for slot in self._slots.values() if slot.free]:
            if slot.session is not None and slot.session.lost:
                self._evict(slot)

    def disown_idle(self) -> None:
        """Drop the unused sessions without an exit message: their units are gone."""
        for slot in [slot for slot in self._slots.values() if slot.free]:
            if slot.session is not None:
                slot.session.disown()
            self._evict(slot)

    async def close(self) -> None:
        """Reject waiting requests, end every session, and give the units a moment to acknowledge."""
        self._closed = True
        for granted in self._waiters:
            if not granted.done():
                granted.set_exception(NotReady("the service is stopping"))
        self._waiters.clear()
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        slots, self._slots = list(self._slots.values()), {}
        for slot in slots:
            if slot.opening is not None:
                slot.opening.cancel()
        await asyncio.gather(*(slot.session.leave(CLOSE_LINGER) for slot in slots if slot.session))

    async def _session(self, slot: _Slot) -> Session:
        if slot.session is None:
            # A task of its own: a setup whose client left has still taken a place in the unit, and only its
            # answer has the work id that frees it.
            slot.opening = asyncio.create_task(self._open_session(slot.key[1]))
            slot.session = await asyncio.shield(slot.opening)
            slot.opening = None
        return slot.session

    async def _acquire(self, key: Key) -> _Slot:
        if self._closed:
            raise NotReady("the service is stopping")
        granted: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiters[granted] = key
        self._dispatch()
        try:
            return await granted
        except asyncio.CancelledError:
            self._waiters.pop(granted, None)
            if granted.done() and not granted.cancelled():
                self._release(granted.result())
            raise

    def _dispatch(self) -> None:
        """Give slots to waiting requests: own and new sessions first come, first served, then the idle
        sessions of others, least recently used first."""
        homeless: dict[asyncio.Future[_Slot], Key] = {}
        for granted, key in list(self._waiters.items()):
            if granted.cancelled():  # a request that was just cancelled has not left yet
                continue
            slot = self._slots.get(key)
            if slot is None and len(self._slots) < self._max_sessions:
                slot = self._slots[key] = _Slot(key, self._clock(), free=True)
            if slot is None:
                homeless[granted] = key
            elif slot.free and not (homeless and slot.handovers >= MAX_HANDOVERS):
                slot.handovers = slot.handovers + 1 if homeless else 0
                self._grant(granted, slot)
        for granted, key in homeless.items():
            if key not in self._slots:
                idle = [slot for slot in self._slots.values() if slot.free]
                if not idle:
                    return
                self._evict(min(idle, key=lambda slot: slot.last_used))
                slot = self._slots[key] = _Slot(key, self._clock(), free=True)
                self._grant(granted, slot)

    def _grant(self, granted: asyncio.Future[_Slot], slot: _Slot) -> None:
        del self._waiters[granted]
        slot.free = False
        granted.set_result(slot)

    def _release(self, slot: _Slot) -> None:
        if slot.opening is not None or (slot.session is not None and slot.session.pending):
            self._in_background(self._recover(slot))
        else:
            self._free(slot)

    async def _recover(self, slot: _Slot) -> None:
        """Wait for the setup or the answer of an abandoned request, then free its slot."""
        try:
            if slot.opening is not None:
                slot.session = await slot.opening
            if slot.session is not None:
                await slot.session.settle()
        except (ServiceError, SessionLost):
            slot.session = None  # the setup failed, so it holds no place in a unit
        finally:
            self._free(slot)

    def _free(self, slot: _Slot) -> None:
        slot.opening = None
        if slot.session is not None and not slot.session.usable:
            self._discard(slot)
        if slot.session is None:
            self._slots.pop(slot.key, None)
        slot.free = True
        slot.last_used = self._clock()
        if not self._closed:
            self._dispatch()

    def _evict(self, slot: _Slot) -> None:
        del self._slots[slot.key]
        self._discard(slot)

    def _discard(self, slot: _Slot) -> None:
        session, slot.session = slot.session, None
        if session is not None:
            if session.lost:
                self._on_lost(session)
            self._in_background(session.leave())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
