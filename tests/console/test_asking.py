"""The console's connection to a node: what nodes and what stands before them may answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from inference_service.console.asking import Connection, NoAnswer

pytestmark = pytest.mark.fast

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbu\r\n2\r\nsy\r\n0\r\n\r\n"
NO_LENGTH = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"


def against(answers: list[bytes | None], ask: Callable[[Connection], Awaitable[Any]]) -> tuple[Any, int]:
    """Asks a server that gives these answers in turn (None: it closes the connection).

    Returns what `ask` returns, and how many connections there were.
    """
    made = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        try:
            while answers:
                await reader.readuntil(b"\r\n\r\n")
                answer = answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                if answer.startswith(b"HTTP/1.0"):
                    break
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def run() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        connection = Connection(f"http://127.0.0.1:{port}", {})
        try:
            return await ask(connection)
        finally:
            connection.close()
            server.close()

    return asyncio.run(run()), made


def test_one_connection_serves_many_requests() -> None:
    async def ask(connection: Connection) -> list[tuple[int, bytes]]:
        return [tuple(await connection.get("/", 5)) for _ in range(3)]

    assert against([OK, CHUNKED, OK], ask) == ([(200, b"ok"), (503, b"busy"), (200, b"ok")], 1)


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    async def ask(connection: Connection) -> list[bytes]:
        return [(await connection.get("/", 5)).body for _ in range(2)]

    assert against([NO_LENGTH, OK], ask) == ([b"until the end", b"ok"], 2)


def test_a_kept_connection_that_the_node_has_closed_costs_no_answer() -> None:
    async def ask(connection: Connection) -> list[bytes]:
        return [(await connection.get("/", 5)).body for _ in range(2)]

    assert against([OK, None, OK], ask) == ([b"ok", b"ok"], 2)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([None], "it closed the connection"),
        ([b"SSH-2.0-OpenSSH\r\n"], "it closed the connection"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"], "it closed the connection"),
        ([b"HTTP/1.1 200 OK\r\nContent-"], "it closed the connection"),
    ],
)
def test_what_is_no_answer_says_why(answers: list[bytes | None], reason: str) -> None:
    async def ask(connection: Connection) -> str:
        with pytest.raises(NoAnswer) as caught:
            await connection.get("/", 0.3)
        return str(caught.value)

    assert against(answers, ask)[0] == reason


def test_a_closed_port_is_named() -> None:
    async def ask(_: Connection) -> str:
        with pytest.raises(NoAnswer) as caught:
            await Connection("http://127.0.0.1:1", {}).get("/", 5)
        return str(caught.value)

    assert against([], ask)[0] == "its port is closed"
