"""One attempt at a live stream, over gRPC or over a WebSocket."""

import json
from collections.abc import Iterator
from threading import Thread
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import grpc
from google.protobuf.json_format import MessageToDict
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from inference_service.client.errors import ClientError, Unavailable, refusal
from inference_service.client.live import Attempt, StreamOptions
from inference_service.client.recording import Recording
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub

_STREAM_ID = "speech"

#: Seconds for a node to answer the first packet.
_CONNECT_SECONDS = 10.0

#: Close codes after which another node may answer: going away, lost connection, restart, full.
_TRY_AGAIN = (1001, 1006, 1012, 1013)


def over_grpc(address: str, *, tls: bool = False) -> Attempt:
    """Return an attempt that streams over gRPC to `host:port`."""

    def attempt(recording: Recording, options: StreamOptions) -> Iterator[dict[str, Any]]:
        channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials())
            if tls
            else grpc.insecure_channel(address)
        )
        with channel:
            call = AIServiceStub(channel).StreamAudioProcessing(
                _messages(recording), metadata=_metadata(options)
            )
            try:
                for result in call:
                    yield MessageToDict(
                        result, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
                    )
            except grpc.RpcError as error:
                raise _grpc_error(address, error) from None

    return attempt


def _messages(recording: Recording) -> Iterator[pb.AudioChunk]:
    for sequence, data in enumerate(recording.chunks(recording.answered), 1):
        yield pb.AudioChunk(
            data=data,
            sequence=sequence,
            stream_id=_STREAM_ID,
            format="pcm",
            sample_rate=recording.sample_rate,
            channels=recording.channels,
        )


def _metadata(options: StreamOptions) -> list[tuple[str, str]]:
    named = {
        "language": options.language,
        "flush-interval-ms": options.flush_interval_ms,
        "x-api-key": options.api_key,
    }
    return [(name, str(value)) for name, value in named.items() if value is not None]


def _grpc_error(address: str, error: grpc.RpcError) -> ClientError:
    code, details = error.code(), error.details()
    # Through an HTTP/2 gateway (nginx), this is the only sign that the node died.
    died = code is grpc.StatusCode.INTERNAL and "RST_STREAM" in details
    if died or code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return Unavailable(f"{address}: {details}")
    return ClientError(f"{address}: {details} ({code.name})")


def over_websocket(url: str) -> Attempt:
    """Return an attempt that streams over a WebSocket to the service whose HTTP address is `url`."""
    parts = urlsplit(url)
    address = urlunsplit(
        ("wss" if parts.scheme == "https" else "ws", parts.netloc, f"{parts.path}/api/v1/ai/stream", "", "")
    )

    def attempt(recording: Recording, options: StreamOptions) -> Iterator[dict[str, Any]]:
        headers = {"X-API-Key": options.api_key} if options.api_key else {}
        try:
            socket = connect(address, additional_headers=headers, open_timeout=_CONNECT_SECONDS)
        except InvalidStatus as error:
            raise _handshake_error(url, error) from None
        except InvalidURI as error:
            raise ClientError(f"{url}: is not an address: {error}") from None
        except (OSError, TimeoutError, InvalidHandshake) as error:
            raise Unavailable(f"{url}: cannot be reached: {error}") from None
        with socket:
            socket.send(json.dumps(_hello(recording, options)))
            Thread(target=_send, args=(socket, recording), daemon=True).start()
            yield from _received(url, socket)

    return attempt


def _hello(recording: Recording, options: StreamOptions) -> dict[str, Any]:
    return {
        "type": "start",
        "stream_id": _STREAM_ID,
        "format": "pcm",
        "sample_rate": recording.sample_rate,
        "channels": recording.channels,
        "language": options.language,
        "flush_interval_ms": options.flush_interval_ms,
    }


def _send(socket: ClientConnection, recording: Recording) -> None:
    try:
        for data in recording.chunks(recording.answered):
            socket.send(data)
        socket.send('{"type": "end"}')
    except ConnectionClosed:
        return  # the receiving side reports the reason


def _received(url: str, socket: ClientConnection) -> Iterator[dict[str, Any]]:
    reason = "the connection broke"
    try:
        for message in socket:
            fields = json.loads(message)
            kind = fields.pop("type")
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
