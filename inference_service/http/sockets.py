"""What every WebSocket does: receive, send, and close with the reason."""

from typing import Any

from litestar import WebSocket
from litestar.exceptions import WebSocketDisconnect

from inference_service.errors import BadRequest, Busy, Draining, NotFound, NotReady, ServiceError, StreamIdle
from inference_service.streaming import ClientGone

#: RFC 6455 close codes by the error that ended the stream.
_CLOSE_CODES: dict[type[ServiceError], int] = {
    BadRequest: 1007,
    NotFound: 1008,
    Draining: 1012,
    Busy: 1013,
    NotReady: 1013,
    StreamIdle: 1008,
}
_INTERNAL_ERROR = 1011

#: Bytes of the reason in a close frame.
_LONGEST_REASON = 123


async def receive(socket: WebSocket[Any, Any, Any]) -> bytes | str:
    """The next message. Raises ClientGone."""
    message: Any = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise ClientGone
    data: bytes | str | None = message.get("bytes")
    return message["text"] if data is None else data


async def send(socket: WebSocket[Any, Any, Any], text: str) -> None:
    """Send a text message. Raises ClientGone."""
    try:
        await socket.send_text(text)
    except (OSError, WebSocketDisconnect) as error:  # uvicorn's ClientDisconnected is an OSError
        raise ClientGone from error


async def close(socket: WebSocket[Any, Any, Any], error: ServiceError) -> None:
    """Close with the code and the reason of `error`. Raises ClientGone."""
    code = next((code for kind, code in _CLOSE_CODES.items() if isinstance(error, kind)), _INTERNAL_ERROR)
    reason = str(error).encode("utf-8")[:_LONGEST_REASON].decode("utf-8", "ignore")
    try:
        await socket.close(code, reason)
    except (OSError, WebSocketDisconnect) as gone:
        raise ClientGone from gone
