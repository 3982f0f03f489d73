"""One attempt at a live stream over a WebSocket."""

import json
from collections.abc import Iterator
from threading import Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from inference_service.client.errors import ClientError, Unavailable, Unreachable, refusal
from inference_service.client.live import STREAM_ID, Attempt, StreamOptions
from inference_service.client.recording import Recording
from inference_service.client.upload import checked_url

#: Seconds for a node to answer the first packet.
_CONNECT_SECONDS = 10.0

#: Seconds between two pings, and for the answer to one: the answer waits while the node is full.
_PING_EVERY, _PING_TIMEOUT = 10.0, 30.0

#: Seconds that an orderly close may take.
_CLOSE_SECONDS = 2.0

#: Close codes after which another node may answer: going away, lost connection, restart, full.
_TRY_AGAIN = (1001, 1006, 1012, 1013)


def over_websocket(url: str) -> Attempt:
    """Return an attempt that streams over a WebSocket to the service whose HTTP address is `url`.

    Raises ClientError for what is no such address.
    """
    parts = urlsplit(checked_url(url))
    address = urlunsplit(
        ("wss" if parts.scheme == "https" else "ws", parts.netloc, f"{parts.path}/api/v1/ai/stream", "", "")
    )

    def attempt(recording: Recording, options: StreamOptions) -> Iterator[dict[str, Any]]:
        headers = {"X-API-Key": options.api_key} if options.api_key else {}
        try:
            socket = connect(
                address,
                additional_headers=headers,
                open_timeout=_CONNECT_SECONDS,
                ping_interval=_PING_EVERY,
                ping_timeout=_PING_TIMEOUT,
                close_timeout=_CLOSE_SECONDS,
            )
        except InvalidStatus as error:
            raise _handshake_error(url, error) from None
        except InvalidURI as error:
            raise ClientError(f"{url}: is not an address: {error}") from None
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise Unreachable(f"{url}: cannot be reached: {error}") from None
        with socket:
            Thread(target=_send, args=(socket, recording, options), daemon=True).start()
            yield from _received(url, socket)

    return attempt


def _hello(recording: Recording, options: StreamOptions) -> dict[str, Any]:
    return {
        "type": "start",
        "stream_id": STREAM_ID,
        "format": "pcm",
        "sample_rate": recording.sample_rate,
        "channels": recording.channels,
        "language": options.language,
        "flush_interval_ms": options.flush_interval_ms,
    }


def _send(socket: ClientConnection, recording: Recording, options: StreamOptions) -> None:
    try:
        socket.send(json.dumps(_hello(recording, options)))
        for data in recording.chunks(recording.answered):
            socket.send(data)
        socket.send('{"type": "end"}')
    except ConnectionClosed:
        return  # the receiving side reports the reason


def _received(url: str, socket: ClientConnection) -> Iterator[dict[str, Any]]:
    reason = "the connection broke"
    try:
        for message in socket:
            try:
                fields = json.loads(message)
                kind = fields.pop("type")
            except (ValueError, KeyError, TypeError, AttributeError):
                raise ClientError(f"{url}: the WebSocket does not speak this service's JSON") from None
            if kind == "result":
                yield fields
            elif kind == "error":
                reason = fields["message"]
    except ConnectionClosed:
        pass  # the close code is checked below
    code = socket.protocol.close_code
    if code in _TRY_AGAIN or code is None:
        raise Unavailable(f"{url}: {reason}")
    if code != 1000:
        raise ClientError(f"{url}: {reason}")


def _handshake_error(url: str, error: InvalidStatus) -> ClientError:
    status = error.response.status_code
    try:
        reason = json.loads(error.response.body or b"")["message"]
    except (ValueError, KeyError, TypeError):
        reason = "the address does not answer with this service's JSON"
    return refusal(url, reason, status)
