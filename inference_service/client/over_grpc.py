"""A whole recording in one gRPC call, and one attempt at a live stream over gRPC."""

import json
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from inference_service.client.errors import ClientError, Refused, Unavailable, Unreachable
from inference_service.client.files import AudioFile
from inference_service.client.live import STREAM_ID, Attempt, StreamOptions
from inference_service.client.recording import Recording
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub

#: The names of tasks in gRPC, by those of HTTP's routes.
_TASKS = {"asr": "speech_recognition", "emotion": "emotion_detection", "synthesis": "synthesis_detection"}

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A server that vanished is noticed after their sum. It allows a ping every 10 s.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 15_000),
    # The time for a connection: 20 s by default.
    ("grpc.min_reconnect_backoff_ms", 10_000),
]


def ask_over_grpc(
    address: str,
    file: AudioFile,
    options: StreamOptions,
    *,
    task: str = "asr",
    tls: bool = False,
    timeout: float = 300.0,
) -> dict[str, Any]:
    """Send the recording whole to `host:port`, and return what `task` (asr, emotion or synthesis) says: the
    `data` of HTTP's route. `timeout` is in seconds. Raises ClientError; Unavailable if a retry may succeed.
    """
    request = pb.ProcessAudioDataRequest(
        audio_data=file.read(),
        format=file.format_name or "",
        sample_rate=file.sample_rate or 0,
        channels=file.channels or 0,
        tasks=[_TASKS[task]],
    )
    with _channel(address, tls) as channel:
        try:
            answer = AIServiceStub(channel).ProcessAudioData(
                request, metadata=_metadata(options), timeout=timeout
            )
        except grpc.RpcError as error:
            raise _error(address, error) from None
    if _TASKS[task] not in answer.results:
        raise ClientError(f"{address}: {answer.error}")
    found: dict[str, Any] = json.loads(answer.results[_TASKS[task]].result_data)
    return found


def over_grpc(address: str, *, tls: bool = False) -> Attempt:
    """Return an attempt that streams over gRPC to `host:port`."""

    def attempt(recording: Recording, options: StreamOptions) -> Iterator[dict[str, Any]]:
        with _channel(address, tls) as channel:
            call = AIServiceStub(channel).StreamAudioProcessing(
                _messages(recording), metadata=_metadata(options)
            )
            try:
                for result in call:
                    yield MessageToDict(
                        result, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
                    )
            except grpc.RpcError as error:
                raise _error(address, error) from None

    return attempt


def _channel(address: str, tls: bool) -> grpc.Channel:
    if tls:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(), _OPTIONS)
    return grpc.insecure_channel(address, _OPTIONS)


def _messages(recording: Recording) -> Iterator[pb.AudioChunk]:
    for sequence, data in enumerate(recording.chunks(recording.answered), 1):
        yield pb.AudioChunk(
            data=data,
            sequence=sequence,
            stream_id=STREAM_ID,
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


def _error(address: str, error: grpc.RpcError) -> ClientError:
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata():
        # A node and the gateway send their request id with every error.
        return Unreachable(f"{address}: cannot be reached: {details}")
    # gRPC's own refusal of a message that is too large has a full node's code.
    is_busy = code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" not in details
    # Through an HTTP/2 gateway (nginx), this is the only sign that the node died.
    died = code is grpc.StatusCode.INTERNAL and "RST_STREAM" in details
    if died or is_busy or code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unavailable(f"{address}: {details}")
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
        return Refused(f"{address}: {details} ({code.name})")
    return ClientError(f"{address}: {details} ({code.name})")
