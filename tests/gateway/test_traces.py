"""Traces through the gateway: a real nginx, a real worker over a double runtime, a real OTLP receiver."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx2
import pytest
from websockets.sync.client import connect

from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from infra.gateway.render import Site
from tests.collector import Collector, Span, collector
from tests.gateway import nginx
from tests.gateway.service_node import service_nodes
from tests.ports import free_port
from tests.service.streams import tone

RATE = 16000
SAID = "zanzibar"
SERVER, INTERNAL = 2, 1


@dataclass(frozen=True)
class Fleet:
    """A gateway, its node's key, and the receiver of the node's traces."""

    site: Site
    collector: Collector

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.http}"


class Client:
    """A client with a trace of its own."""

    def __init__(self, sampled: bool = True) -> None:
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)
        self.traceparent = f"00-{self.trace_id}-{self.span_id}-0{int(sampled)}"
        self.headers = {"traceparent": self.traceparent, "x-request-id": f"request-{self.span_id}"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("traces")
    with collector() as received:
        settings = {
            "SERVER__TRACES__ENDPOINT": received.url,
            "SERVER__TRACES__SHARE": "0",  # so only clients decide
            "AI__STREAMING__FLUSH_INTERVAL_MS": "100",
            "DOUBLE_DELAY": "0.02",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with service_nodes(1, folder, **settings) as nodes:
            site = Site((nodes[0].upstream,), http=free_port(), grpc=free_port(), rate_limit=None)
            with nginx.running(site, folder) as running:
                yield Fleet(running, received)


@pytest.fixture
def client() -> Client:
    return Client()


def wav(seconds: float) -> bytes:
    samples = tone(seconds)
    sizes = (36 + len(samples)).to_bytes(4, "little"), len(samples).to_bytes(4, "little")
    form = b"\x10\0\0\0\x01\0\x01\0" + RATE.to_bytes(4, "little") + (2 * RATE).to_bytes(4, "little")
    return b"RIFF" + sizes[0] + b"WAVEfmt " + form + b"\x02\0\x10\0data" + sizes[1] + samples


def the_server_span(fleet: Fleet, client: Client) -> Span:
    """The one server span of the client's trace, which is that of its request."""
    fleet.collector.wait(lambda: any(each.kind == SERVER for each in of(fleet, client)))
    (server,) = [each for each in of(fleet, client) if each.kind == SERVER]
    assert server.parent_id == client.span_id
    assert server.attributes["ai.request_id"] == client.headers["x-request-id"]
    return server


def of(fleet: Fleet, client: Client) -> list[Span]:
    return [each for each in fleet.collector.spans if each.trace_id == client.trace_id]


def check_children(fleet: Fleet, client: Client, server: Span, names: set[str]) -> None:
    """The others are children of the server span, within its time, without words."""
    children = [each for each in of(fleet, client) if each.span_id != server.span_id]
    assert {each.name for each in children} == names
    for child in children:
        assert child.parent_id == server.span_id
        assert child.kind == INTERNAL
        assert server.begin <= child.begin <= child.end <= server.end
    for each in [server, *children]:
        told = json.dumps([each.attributes, each.events])
        assert SAID not in told
        assert "samples at" not in told  # what the double runtime hears


def test_a_transcription_is_one_trace_from_the_client_to_the_model(fleet: Fleet, client: Client) -> None:
    form = {"model": "whisper-1", "prompt": SAID}
    files = {"file": (f"{SAID}.wav", wav(1.0), "audio/wav")}
    url = f"{fleet.url}/v1/audio/transcriptions"
    answer = httpx2.post(url, data=form, files=files, headers=client.headers)
    assert answer.is_success
    server = the_server_span(fleet, client)
    assert server.name == "http /v1/audio/transcriptions"
    assert server.attributes["http.route"] == "/v1/audio/transcriptions"
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["ai.model"] == "asr"
    assert server.resource["service.name"] == "ai-inference-service"
    check_children(fleet, client, server, {"queue", "decode", "inference"})
    named = fleet.collector.of(client.trace_id)
    assert named["decode"][0].end <= named["queue"][0].begin
    assert named["queue"][0].end <= named["inference"][0].begin
    (inference,) = named["inference"]
    assert inference.end - inference.begin >= 15e6  # the double's 20 ms
    assert inference.attributes == {
        "ai.model": "asr",
        "ai.task": "speech_recognition",
        "ai.runtime": "triton",
        "ai.audio_seconds": 1.0,
    }


def test_a_grpc_call_is_one_trace(fleet: Fleet, client: Client) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{fleet.site.grpc}") as channel:
        request = pb.ProcessAudioDataRequest(
            audio_data=tone(1.0), format="pcm", sample_rate=RATE, channels=1, room_id=SAID
        )
        AIServiceStub(channel).ProcessAudioData(request, metadata=tuple(client.headers.items()), timeout=30)
    server = the_server_span(fleet, client)
    assert server.name == "grpc ProcessAudioData"
    assert server.attributes["rpc.method"] == "ProcessAudioData"
    assert server.attributes["ai.status"] == "OK"
    check_children(fleet, client, server, {"queue", "decode", "inference"})


def test_a_stream_has_spans_for_final_results_and_events_for_partial_ones(
    fleet: Fleet, client: Client
) -> None:
    url = f"ws://127.0.0.1:{fleet.site.http}/api/v1/ai/stream"
    partial = 0
    with connect(url, additional_headers=client.headers) as socket:
        socket.send(json.dumps({"type": "start", "sample_rate": RATE, "meeting_id": SAID}))
        while partial < 2:
            socket.send(tone(0.1))
            message = json.loads(socket.recv(10))
            partial += message["type"] == "result" and not message["is_final"]
        socket.send('{"type": "end"}')
        rest = [message for message in map(json.loads, socket) if message["type"] == "result"]
    assert rest[-1]["is_final"]
    server = the_server_span(fleet, client)
    assert server.name == "websocket /api/v1/ai/stream"
    assert server.attributes["http.response.status_code"] == 101
    assert len([name for name, _ in server.events if name == "partial"]) >= 2
    assert all(found["ai.milliseconds"] >= 15 for name, found in server.events if name == "partial")
    check_children(fleet, client, server, {"queue", "inference"})
    assert len(fleet.collector.of(client.trace_id)["inference"]) == 1


@pytest.mark.parametrize("path", ["asr", "emotion", "synthesis", "batch", "setup"])
def test_every_route_of_the_gateway_passes_the_trace_on(fleet: Fleet, client: Client, path: str) -> None:
    body: dict[str, object] = {"audio_data": "AAAA"}
    httpx2.post(f"{fleet.url}/api/v1/ai/{path}", json=body, headers=client.headers)
    assert the_server_span(fleet, client).name == f"http /api/v1/ai/{path}"


def test_the_realtime_api_and_grpc_streams_pass_the_trace_on(fleet: Fleet, client: Client) -> None:
    url = f"ws://127.0.0.1:{fleet.site.http}/v1/realtime?intent=transcription"
    with connect(url, additional_headers=client.headers) as socket:
        socket.recv(10)
    assert the_server_span(fleet, client).name == "websocket /v1/realtime"
    other = Client()
    with grpc.insecure_channel(f"127.0.0.1:{fleet.site.grpc}") as channel:
        chunk = pb.AudioChunk(data=tone(0.5), sequence=1, sample_rate=RATE, is_final=True)
        metadata = tuple(other.headers.items())
        list(AIServiceStub(channel).StreamAudioProcessing(iter([chunk]), metadata=metadata, timeout=30))
    assert the_server_span(fleet, other).name == "grpc StreamAudioProcessing"


def test_an_error_is_marked_without_its_message(fleet: Fleet, client: Client) -> None:
    headers = {**client.headers, "content-type": "audio/wav"}
    answer = httpx2.post(f"{fleet.url}/api/v1/ai/asr", content=SAID.encode(), headers=headers)
    assert answer.status_code == 400
    server = the_server_span(fleet, client)
    assert server.attributes["http.response.status_code"] == 400
    assert not server.failed  # the client's mistake
    (decode,) = fleet.collector.of(client.trace_id)["decode"]
    assert decode.failed
    assert decode.attributes == {"error.type": "BadRequest"}
    assert not decode.events


def test_requests_that_nobody_samples_are_not_sent(fleet: Fleet, client: Client) -> None:
    unsampled = Client(sampled=False)
    files = {"file": ("a.wav", wav(0.2), "audio/wav")}
    for headers in (unsampled.headers, {"traceparent": "00-broken-01"}, {}, client.headers):
        url = f"{fleet.url}/v1/audio/transcriptions"
        assert httpx2.post(url, data={"model": "whisper-1"}, files=files, headers=headers).is_success
    the_server_span(fleet, client)  # the last one's spans are sent after the others'
    assert not of(fleet, unsampled)
    assert all(each.parent_id for each in fleet.collector.spans)


def test_probes_and_pages_are_no_traces(fleet: Fleet, client: Client) -> None:
    probe = Client()
    for path in ("/health", "/api/v1/ai/health", "/api/v1/ai/info", "/demo"):
        httpx2.get(f"{fleet.url}{path}", headers=probe.headers)
    httpx2.post(f"{fleet.url}/api/v1/ai/setup", json={"models": []}, headers=client.headers)
    the_server_span(fleet, client)
    assert not of(fleet, probe)


def test_log_lines_name_the_trace(fleet: Fleet, client: Client) -> None:
    httpx2.post(f"{fleet.url}/api/v1/ai/setup", json={"models": []}, headers=client.headers)
    node = fleet.site.servers[0].http_address
    lines = httpx2.get(f"http://{node}/api/v1/ai/log", params={"lines": 1000}).json()["data"]["lines"]
    (line,) = [line for line in map(json.loads, lines) if line.get("trace_id") == client.trace_id]
    assert line["request_id"] == client.headers["x-request-id"]


def test_the_gateway_sets_no_trace_of_its_own(tmp_path: Path, fleet: Fleet) -> None:
    text = nginx.write(nginx.render_site(fleet.site), fleet.site, tmp_path).read_text().lower()
    assert "traceparent" not in text
    assert "pass_request_headers" not in text
