"""The streams of one connection (a gRPC call, a WebSocket), and all connections of one worker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from inference_service.budget import Lease
from inference_service.engine import Engine
from inference_service.errors import BadRequest, Draining, ServiceError, StreamIdle
from inference_service.memory import Trimmer
from inference_service.runtimes.base import Call
from inference_service.streaming.chunk import Chunk, StreamResult
from inference_service.streaming.recognition import Recogniser
from inference_service.streaming.session import Session, StreamOptions
from inference_service.tasks import TranscribeOptions

#: Results that wait for a slow reader; further inferences of the connection wait too.
_UNREAD_RESULTS = 8

#: The fraction of the grace time after which open streams are ended. The rest of it is for the answers to the
#: audio that they have sent.
_ENDING_STARTS_AT = 0.75

#: Seconds between the end of the last stream and the end of the grace time, so that its status arrives.
_SAFETY_SECONDS = 1.0

#: Milliseconds; a shorter interval would only load the node.
MIN_FLUSH_INTERVAL_MS = 100

Send = Callable[[StreamResult], Awaitable[None]]


class ClientGone(Exception):
    """The client closed the connection."""


@dataclass(slots=True)
class _OpenStream:
    session: Session
    slot: ExitStack
    lease: Lease


class Connection:
    """Streams by their stream_id. They are independent, but their chunks are read in order: if one stream has
    to wait, so do the others on the connection."""

    def __init__(self, engine: Engine, recogniser: Recogniser, options: StreamOptions, call: Call) -> None:
        self._engine = engine
        self._recogniser = recogniser
        self._options = options
        self._call = call
        self._idle_timeout = engine.settings.ai.streaming.idle_timeout
        self._streams: dict[str, _OpenStream] = {}
        self._results: asyncio.Queue[StreamResult | ServiceError | None] = asyncio.Queue(_UNREAD_RESULTS)
        self._reading: asyncio.Timeout | None = None  # set while a chunk is awaited
        self._writing: asyncio.Timeout | None = None  # set while results are written
        self._ending = False

    async def run(self, chunks: AsyncIterator[Chunk], send: Send) -> None:
        """Feed `chunks` to their streams and `send` the results, until both have ended.

        Raises the ServiceError that ended the connection early: an invalid chunk (earlier audio is answered
        first), a failed inference, Draining, or StreamIdle if no chunk came or no result was read for the
        idle timeout. `chunks` and `send` may raise ClientGone, which ends the connection without an error.
        """
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(self._read(chunks))
            try:
                failure = await self._write(send)
            finally:
                reader.cancel()
                for stream in self._streams.values():
                    await stream.session.close()
                    stream.slot.close()
        if failure is not None:
            raise failure

    def end(self) -> None:
        """Read no more chunks, answer those that were read, and end with Draining."""
        self._ending = True
        if self._reading is not None:
            self._reading.reschedule(0)

    def abort(self) -> None:
        """End with Draining now, without further answers."""
        self._ending = True
        if self._writing is not None:
            self._writing.reschedule(0)

    async def _read(self, chunks: AsyncIterator[Chunk]) -> None:
        failure: ServiceError | None = None
        try:
            while (chunk := await self._next(chunks)) is not None:
                await self._feed(chunk)
                del chunk  # an idle stream releases its last chunk
        except (BadRequest, Draining, StreamIdle) as error:
            failure = error
        except ServiceError as error:
            await self._results.put(error)
            return
        except ClientGone:
            await self._results.put(None)
            return
        try:
            for stream in self._streams.values():
                await stream.session.finish()
        except ServiceError as error:
            failure = failure or error
        await self._results.put(failure)

    async def _next(self, chunks: AsyncIterator[Chunk]) -> Chunk | None:
        if self._ending:
            raise _draining()
        try:
            async with asyncio.timeout(self._idle_timeout) as self._reading:
                return await anext(chunks, None)
        except TimeoutError:
            if self._ending:
                raise _draining() from None
            raise StreamIdle(f"no chunk came for {self._idle_timeout:g} s") from None
        finally:
            self._reading = None

    async def _feed(self, chunk: Chunk) -> None:
        stream = self._streams.get(chunk.stream_id)
        if stream is None:
            stream = self._streams[chunk.stream_id] = self._open(chunk.stream_id)
        stream.lease.resize(stream.session.held + len(chunk.data))
        await stream.session.feed(chunk)
        stream.lease.resize(stream.session.held)
        if chunk.is_final:
            await stream.session.finish()
            stream.slot.close()
            del self._streams[chunk.stream_id]

    def _open(self, stream_id: str) -> _OpenStream:
        slot = ExitStack()
        lease = self._engine.budget.stream()
        slot.callback(lease.close)
        if self._streams:  # the connection's own slot serves the first stream
            slot.enter_context(self._engine.streams.slot())
        session = Session(
            stream_id, self._engine, self._recogniser, self._options, self._call, self._results.put
        )
        return _OpenStream(session, slot, lease)

    async def _write(self, send: Send) -> ServiceError | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as limit:
                self._writing = limit
                while (item := await self._results.get()) is not None:
                    if isinstance(item, ServiceError):
                        return item
                    limit.reschedule(loop.time() + self._idle_timeout)
                    await send(item)
                    limit.reschedule(None)
        except TimeoutError:
            if self._ending:
                return _draining()
            return StreamIdle(f"no result was read for {self._idle_timeout:g} s")
        except ClientGone:
            pass
        finally:
            self._writing = None
        return None


class Admitted(Protocol):
    """What `Streaming` ends when the node drains: a connection, or a session of several after each other."""

    def end(self) -> None:
        """Read no more, answer what was read, and end with Draining."""

    def abort(self) -> None:
        """End with Draining now, without further answers."""


class Streaming:
    """All connections of one entrance, so that they end properly when the node drains."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._recogniser = Recogniser(engine)
        self._admitted: set[Admitted] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining: asyncio.Task[None] | None = None
        self._trimmer = Trimmer()
        engine.when_draining(self._begin_draining)

    @property
    def flush_interval_ms(self) -> int:
        """The node's own interval of partial results in milliseconds; 0: never."""
        return self._engine.settings.ai.streaming.flush_interval_ms

    @contextmanager
    def connect(
        self, call: Call, *, language: str | None = None, flush_interval_ms: int | None = None
    ) -> Iterator[Connection]:
        """A connection, for as long as it is open. `flush_interval_ms` None: the node's setting.

        Raises Draining, Busy if too many are open, and BadRequest for an interval that is not allowed.
        """
        speech = TranscribeOptions(language=language)
        connection = self.connection(call, speech, flush_interval_ms=flush_interval_ms)
        with self.admit(connection):
            yield connection

    def connection(
        self, call: Call, speech: TranscribeOptions, *, flush_interval_ms: int | None = None
    ) -> Connection:
        """A connection that is not admitted yet: something that is, holds the place of its first stream.

        `speech` are the options of speech recognition. Raises BadRequest for an interval that is not allowed.
        """
        if flush_interval_ms is None:
            flush_interval_ms = self.flush_interval_ms
        elif 0 != flush_interval_ms < MIN_FLUSH_INTERVAL_MS:
            raise BadRequest(
                f"flush_interval_ms: {flush_interval_ms} is not allowed; "
                f"0 (never) and {MIN_FLUSH_INTERVAL_MS} or more are"
            )
        max_buffer_ms = self._engine.settings.ai.streaming.max_buffer_ms
        options = StreamOptions(flush_interval_ms, max_buffer_ms, speech)
        return Connection(self._engine, self._recogniser, options, call)

    @contextmanager
    def admit(self, admitted: Admitted) -> Iterator[None]:
        """Hold a place for one stream, and end it when the node drains. Raises Draining, Busy."""
        self._engine.accept()
        with self._engine.streams.slot():
            self._admitted.add(admitted)
            self._empty.clear()
            try:
                yield
            finally:
                self._admitted.discard(admitted)
                self._trimmer.work_ended()
                if not self._admitted:
                    self._empty.set()

    def _begin_draining(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        """Let the connections continue for most of the grace time. Then ask the remaining ones to end, and at
        last abort them."""
        grace = max(0.0, self._engine.grace_left() - _SAFETY_SECONDS)
        steps = [
            (grace * _ENDING_STARTS_AT, "end"),
            (grace * (1 - _ENDING_STARTS_AT), "abort"),
        ]
        for seconds, then in steps:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
                return
            for admitted in list(self._admitted):
                admitted.end() if then == "end" else admitted.abort()


def _draining() -> Draining:
    return Draining("the node is stopping: open the stream again, and another node takes it")
