"""Unary gRPC calls over our own HTTP/2 connection: against gRPC's server, and against a scripted peer."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import hpack
import pytest
import uvloop

from inference_service.runtimes.triton import unary
from inference_service.runtimes.triton.unary import CallFailed, NotSent, UnaryConnection

ECHO = "/test.Test/Echo"


def run(work: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await work

    uvloop.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for gives no signal
        await asyncio.sleep(0.005)


# Against gRPC's own server ---------------------------------------------------------------------------------


class Handler(grpc.GenericRpcHandler):
    """`Echo` answers with the request; the other methods do what they are called after."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.time_left: float | None = None

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(getattr(self, details.method.rpartition("/")[2].lower()))

    async def echo(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return request

    async def large(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return bytes(int(request))

    async def refuse(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "100 % wrong: größer\nals gedacht")
        return b""

    async def wait(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.time_left = context.time_remaining()
        try:
            await asyncio.sleep(float(request))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return b"waited"


@asynccontextmanager
async def grpc_server() -> AsyncIterator[tuple[grpc.aio.Server, Handler, UnaryConnection]]:
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1)])
    handler = Handler()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connection = await UnaryConnection.open(f"127.0.0.1:{port}")
    await until(lambda: connection.takes(10))
    try:
        yield server, handler, connection
    finally:
        connection.close()
        await server.stop(None)


def test_calls_made_at_once_get_each_its_own_answer() -> None:
    async def check() -> None:
        async with grpc_server() as (_, _, connection):
            messages = [f"message {n}".encode() * n for n in range(90)]
            answers = await asyncio.gather(*(connection.call(ECHO, each, 5) for each in messages))
            assert answers == messages

    run(check())


def test_answers_of_any_length_come_whole_however_many_there_were_before() -> None:
    async def check() -> None:
        async with grpc_server() as (_, _, connection):
            for size in (0, 1, 16_384, 70_000, *[9_000_000] * 6):
                answer = await connection.call("/test.Test/Large", str(size).encode(), 5)
                assert len(answer) == size

    run(check())


def test_a_refusal_comes_with_its_code_and_its_words() -> None:
    async def check() -> None:
        async with grpc_server() as (_, _, connection):
            with pytest.raises(CallFailed) as failed:
                await connection.call("/test.Test/Refuse", b"", 5)
            assert failed.value.code is grpc.StatusCode.INVALID_ARGUMENT
            assert failed.value.details == "100 % wrong: größer\nals gedacht"

    run(check())


def test_the_server_is_told_the_deadline_which_ends_the_call_on_both_sides() -> None:
    async def check() -> None:
        async with grpc_server() as (_, handler, connection):
            with pytest.raises(CallFailed) as failed:
                await connection.call("/test.Test/Wait", b"30", 0.3)
            assert failed.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert handler.time_left is not None and handler.time_left <= 0.3
            await until(lambda: handler.cancelled == 1)
            assert await connection.call(ECHO, b"next", 5) == b"next"

    run(check())


def test_cancelling_cancels_the_call_in_the_server() -> None:
    async def check() -> None:
        async with grpc_server() as (_, handler, connection):
            task = asyncio.create_task(connection.call("/test.Test/Wait", b"30", 60))
            await until(lambda: handler.time_left is not None)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: handler.cancelled == 1)
            assert await connection.call(ECHO, b"next", 5) == b"next"

    run(check())


def test_a_stopping_server_gets_no_new_call_and_finishes_what_runs() -> None:
    async def check() -> None:
        async with grpc_server() as (server, handler, connection):
            running = asyncio.create_task(connection.call("/test.Test/Wait", b"0.5", 5))
            await until(lambda: handler.time_left is not None)
            stopping = asyncio.create_task(server.stop(5))
            await until(lambda: not connection.takes(10))
            assert await running == b"waited"
            await stopping
            assert connection.closed

    run(check())


def test_a_lost_connection_fails_the_running_calls_as_unavailable() -> None:
    async def check() -> None:
        async with grpc_server() as (_, handler, connection):
            running = asyncio.create_task(connection.call("/test.Test/Wait", b"30", 60))
            await until(lambda: handler.time_left is not None)
            assert connection._transport is not None
            connection._transport.abort()
            with pytest.raises(CallFailed) as failed:
                await running
            assert failed.value.code is grpc.StatusCode.UNAVAILABLE
            assert connection.closed and not connection.takes(10)

    run(check())


def test_messages_longer_than_a_frame_are_not_taken() -> None:
    async def check() -> None:
        async with grpc_server() as (_, _, connection):
            assert connection.takes(16_379)
            assert await connection.call(ECHO, bytes(16_379), 5) == bytes(16_379)
            assert not connection.takes(16_380)

    run(check())


# Against a scripted peer -----------------------------------------------------------------------------------

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8

MESSAGE = b"\0\0\0\0\x05hello"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def fields(*pairs: tuple[str, str]) -> bytes:
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block: bytes = encoder.encode(list(pairs))
    return block


TRAILERS = fields(("grpc-status", "0"))


class Peer:
    """The other end of a connection: what it read as frames, and what it is told to write."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def next(self, kind: int) -> tuple[int, int, bytes]:
        """Flags, stream and payload of the next frame of a `kind`."""
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == kind:
                return head[4], int.from_bytes(head[5:], "big"), payload


@asynccontextmanager
async def peer(*settings: tuple[int, int]) -> AsyncIterator[tuple[Peer, UnaryConnection]]:
    met: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *ends: met.set_result(Peer(*ends)), "127.0.0.1", 0)
    opening = asyncio.create_task(UnaryConnection.open(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    other = await met
    assert await other.reader.readexactly(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    other.writer.write(frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *each) for each in settings)))
    connection = await opening
    try:
        yield other, connection
    finally:
        connection.close()
        other.writer.close()
        server.close()


@asynccontextmanager
async def called(
    *settings: tuple[int, int],
) -> AsyncIterator[tuple[Peer, UnaryConnection, asyncio.Task[bytes]]]:
    async with peer(*settings) as (other, connection):
        task = asyncio.create_task(connection.call(ECHO, b"hello", 5))
        _, stream, payload = await other.next(DATA)
        assert (stream, payload) == (1, MESSAGE)
        yield other, connection, task
        task.cancel()


def test_a_server_that_does_not_greet_is_not_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary, "_GREETING", 0.1)

    async def check() -> None:
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        with pytest.raises(OSError):
            await UnaryConnection.open(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        server.close()

    run(check())


def test_a_server_that_hangs_fails_its_calls_long_before_their_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unary, "_TICK", 0.02)

    async def check() -> None:
        async with called() as (other, connection, task):
            assert (await other.next(PING))[0] == 0
            with pytest.raises(CallFailed, match="does not answer") as failed:
                await task
            assert failed.value.code is grpc.StatusCode.UNAVAILABLE
            assert connection.closed and connection.unresponsive

    run(check())


def test_a_server_that_answers_pings_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary, "_TICK", 0.005)

    async def check() -> None:
        async with called() as (other, connection, task):
            for _ in range(3):
                _, _, payload = await other.next(PING)
                other.writer.write(frame(PING, 1, 0, payload))
            await asyncio.sleep(1)
            other.writer.write(
                frame(HEADERS, END_HEADERS, 1, fields((":status", "200")))
                + frame(DATA, 0, 1, MESSAGE)
                + frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)
            )
            assert await task == b"hello"
            assert not connection.closed

    run(check())


def test_grpcs_own_server_takes_the_pings_of_a_long_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary, "_TICK", 0.01)

    async def check() -> None:
        async with grpc_server() as (_, _, connection):
            for _ in range(3):
                # 2 + 8 + 32 ticks for as many pings as there are, and then as long again.
                assert await connection.call("/test.Test/Wait", b"0.8", 5) == b"waited"

    run(check())


def test_an_answer_is_understood_in_padded_frames_and_continued_headers_cut_anywhere() -> None:
    async def check() -> None:
        async with called() as (other, _, task):
            block = fields((":status", "200"), ("content-type", "application/grpc"))
            answer = (
                frame(HEADERS, PADDED, 1, b"\x03" + block[:4] + b"\0\0\0")
                + frame(CONTINUATION, END_HEADERS, 1, block[4:])
                + frame(0x42, 0, 1, b"a type that nobody knows")
                + frame(DATA, PADDED, 1, b"\x02" + MESSAGE[:7] + b"\0\0")
                + frame(DATA, 0, 1, MESSAGE[7:])
                + frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)
            )
            for at in range(len(answer)):
                other.writer.write(answer[at : at + 1])
                await asyncio.sleep(0)
            assert await task == b"hello"

    run(check())


def test_a_call_that_the_server_did_not_look_at_may_be_made_elsewhere() -> None:
    async def check() -> None:
        async with called() as (other, connection, task):
            other.writer.write(frame(RST_STREAM, 0, 1, struct.pack(">I", 7)))
            with pytest.raises(NotSent):
                await task
            assert connection.takes(1)
        async with called() as (other, connection, task):
            other.writer.write(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
            with pytest.raises(NotSent):
                await task
            assert connection.closed

    run(check())


def test_a_call_that_the_server_resets_has_failed() -> None:
    async def check() -> None:
        async with called() as (other, _, task):
            other.writer.write(frame(RST_STREAM, 0, 1, struct.pack(">I", 2)))
            with pytest.raises(CallFailed, match="HTTP/2 error 2"):
                await task

    run(check())


def test_pings_are_answered() -> None:
    async def check() -> None:
        async with peer() as (other, _):
            other.writer.write(frame(PING, 0, 0, b"12345678"))
            assert await other.next(PING) == (1, 0, b"12345678")

    run(check())


def test_the_servers_limits_of_calls_and_of_bytes_are_kept() -> None:
    async def check() -> None:
        async with called((3, 1)) as (other, connection, task):
            assert not connection.takes(1)
            other.writer.write(
                frame(HEADERS, END_HEADERS, 1, fields((":status", "200")))
                + frame(DATA, 0, 1, MESSAGE)
                + frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)
            )
            assert await task == b"hello"
            assert connection.takes(1)
        async with peer((4, 100)) as (_, connection):
            assert connection.takes(95) and not connection.takes(96)
        async with peer() as (other, connection):
            tasks = [asyncio.create_task(connection.call(ECHO, bytes(16_000), 5)) for _ in range(4)]
            await asyncio.sleep(0)
            assert not connection.takes(16_000)
            other.writer.write(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 20_000)))
            await until(lambda: connection.takes(16_000))
            for task in tasks:
                task.cancel()

    run(check())


@pytest.mark.parametrize(
    "nonsense",
    [
        frame(HEADERS, END_HEADERS, 1, b"\xbe"),
        frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(HEADERS, 0, 1, b"\x88") + frame(DATA, 0, 1, b""),
        frame(DATA, PADDED, 1, b"\x09"),
        frame(5, 0, 1, b"\0\0\0\2"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=[
        "a field of a table that there is not",
        "a continuation of nothing",
        "an interrupted header block",
        "more padding than frame",
        "a push",
        "HTTP/1.1",
    ],
)
def test_a_peer_that_breaks_the_rules_loses_the_connection(nonsense: bytes) -> None:
    async def check() -> None:
        async with called() as (other, connection, task):
            other.writer.write(nonsense)
            with pytest.raises(CallFailed) as failed:
                await task
            assert failed.value.code is grpc.StatusCode.UNAVAILABLE
            assert connection.closed

    run(check())


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (frame(HEADERS, END_HEADERS | END_STREAM, 1, fields((":status", "502"))), grpc.StatusCode.UNKNOWN),
        (
            frame(HEADERS, END_HEADERS | END_STREAM, 1, fields((":status", "200"), ("grpc-status", "0"))),
            grpc.StatusCode.INTERNAL,
        ),
        (
            frame(DATA, 0, 1, b"\x01" + MESSAGE[1:])
            + frame(HEADERS, END_HEADERS | END_STREAM, 1, fields(("grpc-status", "0"))),
            grpc.StatusCode.INTERNAL,
        ),
    ],
    ids=["no gRPC status", "no message", "a compressed message"],
)
def test_an_answer_that_is_not_one_is_an_error(answer: bytes, code: grpc.StatusCode) -> None:
    async def check() -> None:
        async with called() as (other, _, task):
            other.writer.write(answer)
            with pytest.raises(CallFailed) as failed:
                await task
            assert failed.value.code is code

    run(check())
