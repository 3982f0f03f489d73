"""Live speech through the gateway: a real nginx in front of real workers over a double runtime."""

from __future__ import annotations

import base64
import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from openai import OpenAI
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from inference_service.client import Recording, transcribe_live
from inference_service.client.live import StreamOptions
from inference_service.client.over_grpc import over_grpc
from inference_service.client.over_websocket import over_websocket
from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from infra.gateway.render import RateLimit, Site, Tls
from tests.gateway import nginx
from tests.gateway.service_node import ServiceNode, service_nodes
from tests.gateway.test_render import certificate  # noqa: F401
from tests.ports import free_port
from tests.service.streams import pieces, tone

KEY = "first-key.0123"
RATE = 16000
SECOND = tone(1.0)
HELLO = json.dumps({"type": "start", "sample_rate": RATE})
UNLIMITED = [("grpc.max_send_message_length", -1)]

Start = Callable[..., Site]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*nodes, tls=…)`: a gateway over these nodes, stopped after the test."""
    with ExitStack() as stack:

        def start(*nodes: ServiceNode, **settings: Any) -> Site:
            servers = tuple(node.upstream for node in nodes)
            ports = {"http": free_port(), "grpc": free_port()}
            site = Site(servers, **ports, **{"rate_limit": None, **settings})
            return stack.enter_context(nginx.running(site, tmp_path))

        yield start


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceNode]:
    """One node that needs an API key, for tests that do not change it."""
    with service_nodes(1, tmp_path_factory.mktemp("node"), SERVER__API_KEYS=KEY) as nodes:
        yield nodes[0]


@pytest.fixture
def channel(request: pytest.FixtureRequest) -> Iterator[Callable[..., grpc.Channel]]:
    """`channel(site)`: a connection of its own to a gateway's gRPC entrance."""
    with ExitStack() as stack:

        def channel(site: Site, tls: Tls | None = None) -> grpc.Channel:
            options = [*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)]
            if tls is None:
                return stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{site.grpc}", options))
            trusted = grpc.ssl_channel_credentials(Path(tls.certificate).read_bytes())
            return stack.enter_context(grpc.secure_channel(f"localhost:{site.grpc}", trusted, options))

        yield channel


Channel = Callable[..., grpc.Channel]


def chunks(seconds: float) -> Iterator[pb.AudioChunk]:
    """Audio in chunks of 100 ms; the last chunk is final."""
    parts = pieces(tone(seconds), RATE // 10 * 2)
    for sequence, part in enumerate(parts, 1):
        yield pb.AudioChunk(data=part, sequence=sequence, sample_rate=RATE, is_final=sequence == len(parts))


def milliseconds(results: list[pb.AIStreamResult]) -> int:
    """The length of the audio that the final results cover."""
    return sum(json.loads(result.result_data)["duration_ms"] for result in results if result.is_final)


def stream(channel: grpc.Channel, messages: Iterator[pb.AudioChunk], *metadata: tuple[str, str]) -> Any:
    return AIServiceStub(channel).StreamAudioProcessing(messages, metadata=metadata, timeout=30)


def status_of(channel: grpc.Channel, messages: Iterator[pb.AudioChunk], *metadata: tuple[str, str]) -> Any:
    """The status with which a stream ends."""
    call = stream(channel, messages, *metadata)
    with suppress(grpc.RpcError):
        list(call)
    return call.code()


def websocket(site: Site, **options: Any) -> ClientConnection:
    """A WebSocket through the gateway's HTTP entrance."""
    return connect(f"ws://127.0.0.1:{site.http}/api/v1/ai/stream", **options)


def spoken_into(socket: ClientConnection, seconds: int) -> list[dict[str, Any]]:
    """The results for some seconds of audio over an open WebSocket."""
    socket.send(HELLO)
    for _ in range(seconds):
        socket.send(SECOND)
    socket.send('{"type": "end"}')
    return [message for message in map(json.loads, socket) if message["type"] == "result"]


async def spoken_over_tls(site: Site, tls: Tls, seconds: int) -> list[dict[str, Any]]:
    """The results for some seconds of audio over a WebSocket in TLS."""
    # Not with the client that has a thread for reading: two threads in one TLS connection of Python's get in
    # each other's way, and about one handshake in a thousand never ended.
    trusted = ssl.create_default_context(cafile=tls.certificate)
    address = f"wss://127.0.0.1:{site.http}/api/v1/ai/stream"
    async with connect_async(address, ssl=trusted, additional_headers={"X-API-Key": KEY}) as socket:
        await socket.send(HELLO)
        for _ in range(seconds):
            await socket.send(SECOND)
        await socket.send('{"type": "end"}')
        messages = [json.loads(message) async for message in socket]
    return [message for message in messages if message["type"] == "result"]


def handshake_status(site: Site, **options: Any) -> int:
    """The HTTP status of a refused WebSocket; 101 if it is open."""
    try:
        with websocket(site, **options):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


# Admission -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balancing", ["http2", "layer4"])
async def test_streams_come_over_tls(
    start: Start,
    node: ServiceNode,
    channel: Channel,
    certificate: Tls,  # noqa: F811
    balancing: str,
) -> None:
    site = start(node, tls=certificate, api_keys=(KEY,), grpc_balancing=balancing)

    results = list(stream(channel(site, certificate), chunks(12.0), ("x-api-key", KEY)))
    assert milliseconds(results) == pytest.approx(12_000, abs=len(results))
    found = await spoken_over_tls(site, certificate, 3)
    assert sum(json.loads(result["result_data"])["duration_ms"] for result in found) == 3000


def test_a_client_that_does_not_trust_the_certificate_stays_outside(
    start: Start,
    node: ServiceNode,
    certificate: Tls,  # noqa: F811
) -> None:
    site = start(node, tls=certificate)
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(f"wss://localhost:{site.http}/api/v1/ai/stream")
    with grpc.secure_channel(f"localhost:{site.grpc}", grpc.ssl_channel_credentials()) as untrusting:
        assert status_of(untrusting, chunks(1.0)) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("balancing", ["http2", "layer4"])
def test_a_grpc_stream_needs_an_accepted_key(
    start: Start, node: ServiceNode, channel: Channel, balancing: str
) -> None:
    connection = channel(start(node, api_keys=(KEY,), grpc_balancing=balancing))
    for refused in [(), (("x-api-key", "wrong-key"),), (("authorization", f"Basic {KEY}"),)]:
        assert status_of(connection, chunks(1.0), *refused) is grpc.StatusCode.UNAUTHENTICATED
    for accepted in [("x-api-key", KEY), ("authorization", f"Bearer {KEY}")]:
        assert status_of(connection, chunks(1.0), accepted) is grpc.StatusCode.OK


def test_reflection_and_health_come_through(start: Start, node: ServiceNode, channel: Channel) -> None:
    connection = channel(start(node))
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    reflection = reflection_pb2_grpc.ServerReflectionStub(connection)
    [listed] = reflection.ServerReflectionInfo(iter([asked]), metadata=(("x-api-key", KEY),))
    assert "grpc.AIService" in {service.name for service in listed.list_services_response.service}
    health = health_pb2_grpc.HealthStub(connection).Check(
        health_pb2.HealthCheckRequest(service="grpc.AIService"), timeout=10
    )
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_a_websocket_needs_an_accepted_key(start: Start, node: ServiceNode) -> None:
    site = start(node, api_keys=(KEY,))
    assert handshake_status(site) == 401
    assert handshake_status(site, additional_headers={"X-API-Key": "wrong-key"}) == 401
    assert handshake_status(site, additional_headers={"Authorization": f"Bearer {KEY}"}) == 101
    assert handshake_status(site, subprotocols=["ai-stream", f"api-key.{KEY}"]) == 101


def test_openai_s_real_time_client_is_served_with_its_key(start: Start, node: ServiceNode) -> None:
    site = start(node, api_keys=(KEY,))
    base = f"http://127.0.0.1:{site.http}/v1"
    for key in ("wrong-key", KEY):
        with OpenAI(base_url=base, api_key=key) as client:
            session = client.realtime.connect(extra_query={"intent": "transcription"})
            if key != KEY:
                with pytest.raises(InvalidStatus) as refused:
                    session.enter()
                assert refused.value.response.status_code == 401
                continue
            with session as connection:
                for part in (bytes(48000), tone(1.0, 24000), bytes(48000)):
                    connection.input_audio_buffer.append(audio=base64.b64encode(part).decode())
                kinds = []
                while "conversation.item.input_audio_transcription.completed" not in kinds:
                    kinds.append(connection.recv().type)
    assert kinds[0] == "session.created"
    assert "input_audio_buffer.speech_started" in kinds


@pytest.mark.parametrize("path", ["/v1/nowhere", "/api/v1/ai/nowhere", "/nowhere"])
def test_a_websocket_that_there_is_not_is_404_with_a_text(start: Start, node: ServiceNode, path: str) -> None:
    site = start(node, api_keys=(KEY,))
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{site.http}{path}", additional_headers={"X-API-Key": KEY})
    assert refused.value.response.status_code == 404
    answer = json.loads(refused.value.response.body)
    message = answer["error"]["message"] if path.startswith("/v1/") else answer["message"]
    assert re.search("there is no WebSocket .*/nowhere|no such route", message)


def test_the_rate_limit_counts_streams_and_not_their_chunks(
    start: Start, node: ServiceNode, channel: Channel
) -> None:
    site = start(node, rate_limit=RateLimit(per_second=1, burst=1))
    connection = channel(site)
    key = ("x-api-key", KEY)

    assert milliseconds(list(stream(connection, chunks(10.0), key))) == 10_000  # a hundred chunks
    statuses = {status_of(connection, chunks(0.1), key) for _ in range(5)}
    assert statuses == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}


def test_websockets_over_the_rate_are_429(start: Start, node: ServiceNode) -> None:
    site = start(node, rate_limit=RateLimit(per_second=1, burst=1))
    headers = {"X-API-Key": KEY}
    statuses = [handshake_status(site, additional_headers=headers) for _ in range(5)]
    assert statuses[:2] == [101, 101]
    assert 429 in statuses


# Results -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        [pb.AudioChunk(data=SECOND + b"\0", is_final=True)],
        [pb.AudioChunk(data=SECOND, sample_rate=-1)],
        [pb.AudioChunk(data=SECOND, sample_rate=2**31 - 1)],
        [pb.AudioChunk(data=SECOND, channels=99)],
        [pb.AudioChunk(data=SECOND, tasks=["lip_reading"])],
        [pb.AudioChunk(data=SECOND, tasks=[""])],
        [pb.AudioChunk(data=SECOND, format="mp3")],
        [pb.AudioChunk(data=SECOND, format="pcm"), pb.AudioChunk(data=SECOND, format="wav")],
    ],
    ids=["half a sample", "rate below 0", "absurd rate", "99 channels", "unknown task", "empty task", "MP3",
         "format changes to a WAV that is none"],
)  # fmt: skip
def test_a_stream_that_makes_no_sense_is_refused_with_the_reason(
    start: Start, node: ServiceNode, channel: Channel, messages: list[pb.AudioChunk]
) -> None:
    connection = channel(start(node))
    call = stream(connection, iter(messages), ("x-api-key", KEY))
    with pytest.raises(grpc.RpcError):
        list(call)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert call.details()
    assert status_of(connection, chunks(1.0), ("x-api-key", KEY)) is grpc.StatusCode.OK


def test_a_chunk_of_twenty_megabytes_is_one_chunk_like_others(
    start: Start, node: ServiceNode, channel: Channel
) -> None:
    data = bytes(20_000_000)
    messages = [pb.AudioChunk(data=data, sequence=1, sample_rate=48000, is_final=True)]
    results = list(stream(channel(start(node)), iter(messages), ("x-api-key", KEY)))
    assert milliseconds(results) == pytest.approx(len(data) / 96, abs=len(results))


# Nodes that go away -----------------------------------------------------------------------------------------


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[list[ServiceNode]]:
    with service_nodes(2, tmp_path, SERVER__SHUTDOWN_GRACE="3s", DOUBLE_DELAY="0.2") as nodes:
        yield nodes


def the_one_with_a_call(nodes: list[ServiceNode], entrance: str) -> ServiceNode:
    """The node that runs the one open call."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for node in nodes:
            if node.process.poll() is None and node.open_calls(entrance):
                return node
        time.sleep(0.02)
    raise AssertionError("no node has a call")


def live(pause: float, over: threading.Event) -> Iterator[pb.AudioChunk]:
    """Seconds of audio, `pause` seconds apart, until `over` is set."""
    for sequence in itertools.count(1):
        yield pb.AudioChunk(data=SECOND, sequence=sequence, sample_rate=RATE)
        if over.wait(pause):
            return


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set at the end of the test, so that senders of audio stop."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize(
    ("balancing", "status"),
    [
        ("http2", grpc.StatusCode.INTERNAL),  # nginx resets the stream and has no other status for it
        ("layer4", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_a_stream_whose_node_dies_ends_with_a_status_and_the_next_one_is_answered(
    start: Start,
    two_nodes: list[ServiceNode],
    channel: Channel,
    over: threading.Event,
    balancing: str,
    status: Any,
) -> None:
    site = start(*two_nodes, grpc_balancing=balancing)

    silent = stream(channel(site), live(20.0, over))
    the_one_with_a_call(two_nodes, "grpc").kill()
    with pytest.raises(grpc.RpcError):
        next(silent)
    assert silent.code() is status

    answered = stream(channel(site), live(0.01, over))
    assert next(answered).is_final
    the_one_with_a_call(two_nodes, "grpc").kill()
    with pytest.raises(grpc.RpcError):
        list(answered)
    assert answered.code() is status


def test_a_unary_call_whose_node_dies_is_unavailable(start: Start, tmp_path: Path, channel: Channel) -> None:
    with service_nodes(1, tmp_path, DOUBLE_DELAY="30") as nodes:
        stub = AIServiceStub(channel(start(*nodes)))
        request = pb.ProcessAudioDataRequest(audio_data=SECOND, format="pcm", sample_rate=RATE)
        answer = stub.ProcessAudioData.future(request, timeout=20)
        the_one_with_a_call(nodes, "grpc").kill()
        assert answer.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("transport", ["grpc", "websocket"])
def test_a_client_goes_on_with_the_other_node_and_every_second_is_answered_once(
    start: Start, two_nodes: list[ServiceNode], transport: str
) -> None:
    site = start(*two_nodes)
    attempt = (
        over_grpc(f"127.0.0.1:{site.grpc}")
        if transport == "grpc"
        else over_websocket(f"http://127.0.0.1:{site.http}")
    )
    recording = Recording(RATE)
    # Paced, so that the node dies in the middle of the stream.
    speaking = threading.Thread(target=speak, args=(recording, 45, 0.05))
    speaking.start()

    found = []
    for update in transcribe_live(recording, StreamOptions(), attempt):
        if not found:
            the_one_with_a_call(two_nodes, transport).kill()
        found.append(update.result["result_data"]["duration_ms"])
    speaking.join()
    assert sum(found) == pytest.approx(45_000, abs=len(found))


def speak(recording: Recording, seconds: int, pause: float) -> None:
    for _ in range(seconds):
        recording.append(SECOND)
        time.sleep(pause)
    recording.finish()


def test_a_node_that_has_to_stop_answers_what_was_sent_and_ends_its_streams_as_unavailable(
    start: Start, two_nodes: list[ServiceNode], channel: Channel, over: threading.Event
) -> None:
    site = start(*two_nodes)
    call = stream(channel(site), live(20.0, over))
    leaving = the_one_with_a_call(two_nodes, "grpc")
    leaving.process.terminate()

    assert status_of(channel(site), chunks(1.0)) is grpc.StatusCode.OK, "new streams go to the other node"
    results = []
    with pytest.raises(grpc.RpcError):
        results.extend(call)
    assert milliseconds(results) == 1000
    assert call.code() is grpc.StatusCode.UNAVAILABLE
    assert leaving.process.wait(10) == 0


def test_a_websocket_on_a_node_that_has_to_stop_is_answered_and_closed_as_restarting(
    start: Start, two_nodes: list[ServiceNode]
) -> None:
    site = start(*two_nodes)
    with websocket(site) as socket:
        socket.send(HELLO)
        socket.send(SECOND)
        the_one_with_a_call(two_nodes, "websocket").process.terminate()
        messages = []
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                messages.append(json.loads(socket.recv(timeout=10)))
    assert [message["type"] for message in messages] == ["ready", "result", "error"]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
