"""Live audio for browsers: the WebSocket `/api/v1/ai/stream`.

The client's first message is JSON, the hello: the stream's format and the requested tasks. Binary messages
with audio follow, split at any byte, and finally the JSON `{"type": "end"}`. The server answers the hello
with `{"type": "ready", …}`, every flush with `{"type": "result", …}` (the fields of gRPC's AIStreamResult;
`sequence` counts the binary messages from 1) and the end with `{"type": "end"}`. It reports an error as
`{"type": "error", "code", "message"}` before it closes the connection.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from inference_service.engine import Engine
from inference_service.errors import BadRequest, ServiceError, StreamIdle
from inference_service.http.analysis import BASE
from inference_service.http.envelope import request_id_of
from inference_service.http.requests import Id, id_text
from inference_service.http.sockets import close, receive, send
from inference_service.request_fields import language
from inference_service.runtimes.base import Call
from inference_service.streaming import Chunk, ClientGone, Streaming, StreamResult
from inference_service.streaming.format import StreamFormat

PATH = f"{BASE}/stream"

#: The subprotocol that the server chooses if a browser offers it besides the one that carries its API key.
SUBPROTOCOL = "ai-stream"

#: Seconds within which the hello must come.
_HELLO_SECONDS = 10.0


class Hello(msgspec.Struct, forbid_unknown_fields=True):
    """A stream's first message. Times in milliseconds; `flush_interval_ms` absent: the node's setting."""

    type: str = "start"
    format: str = "pcm"
    sample_rate: int | None = None  # of audio without a header; absent: the format's default
    channels: int = 1
    tasks: list[str] = []
    language: str | None = None
    flush_interval_ms: int | None = None
    stream_id: str = ""
    meeting_id: Id | None = None


class _Control(msgspec.Struct):
    type: str


class StreamProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol, which closes an open WebSocket as soon as the server begins to stop.

    This one leaves that to `Streaming`, which ends it within the grace time, once its audio is answered.
    """

    def shutdown(self) -> None:
        """Leave an open WebSocket to its stream."""
        if not self.handshake_complete:
            super().shutdown()


def routes(engine: Engine) -> list[WebsocketRouteHandler]:
    """The WebSocket."""
    streaming = Streaming(engine)

    @websocket(PATH)
    async def stream(socket: WebSocket[Any, Any, Any]) -> None:
        offered = socket.scope["subprotocols"]
        await socket.accept(subprotocols=SUBPROTOCOL if SUBPROTOCOL in offered else None)
        try:
            await _serve(socket, streaming)
            await _send(socket, {"type": "end"})
            await socket.close(1000)
        except ServiceError as error:
            await _refuse(socket, error)
        except (ClientGone, WebSocketDisconnect):
            pass  # the client has closed the connection

    return [stream]


async def _serve(socket: WebSocket[Any, Any, Any], streaming: Streaming) -> None:
    hello = await _hello(socket)
    call = Call(request_id_of(socket.scope), id_text(hello.meeting_id))
    with streaming.connect(
        call, language=language(hello.language), flush_interval_ms=hello.flush_interval_ms
    ) as connection:
        opening = _opening(hello)
        rate = StreamFormat().changed_by(opening).rate
        await _send(socket, {**msgspec.structs.asdict(hello), "sample_rate": rate, "type": "ready"})

        async def answer(result: StreamResult) -> None:
            await _send(socket, _message(result))

        await connection.run(_chunks(socket, opening), answer)


async def _hello(socket: WebSocket[Any, Any, Any]) -> Hello:
    try:
        async with asyncio.timeout(_HELLO_SECONDS):
            message = await receive(socket)
    except TimeoutError:
        raise StreamIdle(f"no hello came within {_HELLO_SECONDS:g} s") from None
    if isinstance(message, bytes):
        raise BadRequest("the first message must be the hello, a JSON text; audio comes after it")
    try:
        # Not strict: pages take numbers from form fields, as text.
        return msgspec.json.decode(message, type=Hello, strict=False)
    except msgspec.DecodeError as error:
        raise BadRequest(f"hello: {error}") from None


def _opening(hello: Hello) -> Chunk:
    """The hello as a chunk of its own, so that a wrong format is refused before any audio."""
    return Chunk(
        stream_id=hello.stream_id,
        format=hello.format,
        sample_rate=hello.sample_rate or 0,
        channels=hello.channels,
        tasks=tuple(hello.tasks),
    )


async def _chunks(socket: WebSocket[Any, Any, Any], opening: Chunk) -> AsyncIterator[Chunk]:
    yield opening
    sequence = 0
    while isinstance(message := await receive(socket), bytes):
        sequence += 1
        yield Chunk(message, sequence, opening.stream_id)
    try:
        control = msgspec.json.decode(message, type=_Control)
    except msgspec.DecodeError as error:
        raise BadRequest(f"a text message: {error}") from None
    if control.type != "end":
        raise BadRequest(f'type: {control.type[:40]!r} is not known; after the hello only "end" is')


async def _send(socket: WebSocket[Any, Any, Any], message: dict[str, Any]) -> None:
    await send(socket, msgspec.json.encode(message).decode("utf-8"))


async def _refuse(socket: WebSocket[Any, Any, Any], error: ServiceError) -> None:
    with suppress(ClientGone):
        await _send(socket, {"type": "error", "code": error.status, "message": str(error)})
        await close(socket, error)


def _message(result: StreamResult) -> dict[str, Any]:
    """A result as protobuf's JSON form of AIStreamResult, with a `type`."""
    return {
        "type": "result",
        "stream_id": result.stream_id,
        "sequence": result.sequence,
        "result_type": result.task,
        "result_data": msgspec.json.encode(result.data).decode("utf-8"),
        "confidence": result.data.confidence,
        "is_final": result.is_final,
        "timestamp": datetime.fromtimestamp(result.timestamp, UTC).isoformat().replace("+00:00", "Z"),
    }
