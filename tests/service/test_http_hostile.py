"""Malformed and hostile requests: the right status, a reason, never 500, and the next request succeeds."""

from __future__ import annotations

import base64
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.service.conftest import Service
from tests.service.test_http_routes import b64, data_of, wav

WAV = wav()
JSON = {"content-type": "application/json"}


@pytest.fixture(autouse=True)
def the_next_request_is_fine(client: httpx2.Client) -> Iterator[None]:
    yield
    data_of(client.post("/asr", json={"audio_data": b64(WAV)}))


def refused(response: httpx2.Response, status: int, *words: str) -> None:
    body = response.json()
    assert (response.status_code, body["code"], body["data"]) == (status, status, None), body
    for word in words:
        assert word in body["message"]


@pytest.mark.parametrize(
    ("name", "audio"),
    [
        ("truncated header", WAV[:20]),
        ("truncated samples", WAV[:-7]),
        ("no data chunk", WAV[:36]),
        ("zero rate", WAV[:24] + struct.pack("<I", 0) + WAV[28:]),
        ("zero channels", WAV[:22] + struct.pack("<H", 0) + WAV[24:]),
        ("65535 channels", WAV[:22] + struct.pack("<H", 65535) + WAV[24:]),
        ("no samples", WAV[:40] + struct.pack("<I", 0)),
        ("zeros", bytes(1000)),
        ("text", b"this is not audio at all"),
        ("FLAC magic only", b"fLaC" + bytes(40)),
    ],
)
@pytest.mark.parametrize("kind", ["json", "body", "form"])
def test_broken_audio_is_a_400_with_the_reason(
    client: httpx2.Client, kind: str, name: str, audio: bytes
) -> None:
    if kind == "json":
        response = client.post("/asr", json={"audio_data": b64(audio)})
    elif kind == "body":
        response = client.post("/asr", content=audio, headers={"content-type": "audio/wav"})
    else:
        response = client.post("/asr", files={"file": ("talk.wav", audio, "audio/wav")})
    refused(response, 400)
    assert len(response.json()["message"]) > 10


def test_no_bytes_at_all(client: httpx2.Client) -> None:
    refused(client.post("/asr", content=b"", headers=JSON), 400, "JSON")
    refused(client.post("/asr", content=b"", headers={"content-type": "audio/wav"}), 400, "empty")
    refused(client.post("/asr", json={"audio_data": ""}), 400, "audio_data")
    refused(client.post("/analyze", json={"task_type": "asr", "input_data": ""}), 400, "input_data")


def test_an_odd_number_of_pcm_bytes(client: httpx2.Client) -> None:
    pcm = {"content-type": "application/octet-stream"}
    refused(client.post("/asr", content=b"abc", headers=pcm), 400, "3 bytes")
    refused(client.post("/asr", json={"audio_data": b64(b"abc"), "format": "pcm"}), 400, "3 bytes")
    refused(client.post("/asr?channels=2", content=b"abcdef", headers=pcm), 400, "channels")


@pytest.mark.parametrize("text", ["%%%", "AAAAA", "Zm9v=Zm9v", "ÄÖÜ=", "AA-_+/AA", "=" * 8])
def test_what_is_not_base64_names_its_field(client: httpx2.Client, text: str) -> None:
    refused(client.post("/asr", json={"audio_data": text}), 400, "audio_data")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sample_rate", -1),
        ("sample_rate", 0),
        ("sample_rate", 10**12),
        ("sample_rate", 10**400),
        ("sample_rate", 16000.5),
        ("sample_rate", 1e300),
        ("sample_rate", "16 kHz"),
        ("sample_rate", [16000]),
        ("sample_rate", True),
        ("channels", -2),
        ("channels", 10**9),
        ("channels", {}),
        ("format", 7),
        ("format", "pcm\x00"),
        ("format", "avi"),
        ("audio_data", 5),
        ("audio_data", {"a": 1}),
        ("language", 3),
        ("language", "x" * 1000),
        ("meeting_id", []),
    ],
)
def test_a_wrong_type_or_a_huge_number_names_its_field(
    client: httpx2.Client, field: str, value: object
) -> None:
    body = {"audio_data": b64(bytes(3200)), "format": "pcm", field: value}
    refused(client.post("/asr", json=body), 400, field)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"{'a': 1}",
        b'{"audio_data": NaN}',
        b'{"audio_data": 1e999}',
        b'{"text": "\\ud800"}',
        b'{"text": "\xff\xfe"}',
        b'{"text": "\x00"}',
        b"\x00" * 1000,
        b'{"x":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"x":' + b'{"x":' * 100_000 + b"1" + b"}" * 100_001,
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("route", ["emotion", "analyze", "batch"])
def test_json_that_is_broken_or_a_bomb(client: httpx2.Client, route: str, body: bytes) -> None:
    refused(client.post(f"/{route}", content=body, headers=JSON), 400)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("batch", b'{"tasks":[' + b"{}," * 1_000_000 + b"{}]}"),
        ("analyze", b'{"params":{' + b'"a":1,' * 500_000 + b'"a":1}}'),
        ("setup", b'{"models":[' + b'"",' * 500_000 + b'""]}'),
    ],
)
def test_json_that_would_fill_the_memory_is_refused_before_it_is_read(
    client: httpx2.Client, route: str, body: bytes
) -> None:
    refused(client.post(f"/{route}", content=body, headers=JSON), 400, "more than 100000")


@pytest.mark.parametrize("kind", ["text/plain", "image/png", "application/xml", "nonsense", "a/b/c;;="])
def test_an_unknown_media_type_is_a_415_that_names_the_known_ones(client: httpx2.Client, kind: str) -> None:
    refused(client.post("/asr", content=WAV, headers={"content-type": kind}), 415, "audio/wav")


def test_a_json_route_does_not_take_audio(client: httpx2.Client) -> None:
    refused(client.post("/analyze", content=WAV, headers={"content-type": "audio/wav"}), 415)


@pytest.mark.parametrize(
    ("query", "field"),
    [("sample_rate=abc", "sample_rate"), ("channels=-1", "channels"), ("sample_rate=%FF", "query"),
     ("sample_rate=" + "9" * 5000, "sample_rate"), ("format=avi", "format"), ("language=%00", "language")],
)  # fmt: skip
def test_a_wrong_query_names_its_field(client: httpx2.Client, query: str, field: str) -> None:
    pcm = {"content-type": "application/octet-stream"}
    refused(client.post(f"/asr?{query}", content=bytes(3200), headers=pcm), 400, field)


def test_forms_that_cannot_be_read(client: httpx2.Client) -> None:
    no_boundary = {"content-type": "multipart/form-data"}
    refused(client.post("/asr", content=b"--x\r\n", headers=no_boundary), 400, "boundary")
    cut = {"content-type": "multipart/form-data; boundary=x"}
    refused(client.post("/asr", content=b"--x\r\nContent-Dispo", headers=cut), 400, "form")
    refused(client.post("/asr", content=WAV, headers=cut), 400)
    refused(client.post("/asr", files={}, data={"language": "en"}, headers={**cut}), 400)
    two = [("file", ("a.wav", WAV)), ("file", ("b.wav", WAV))]
    refused(client.post("/asr", files=two), 400, "more than one file")
    many = [(f"field{number}", (None, "x")) for number in range(100)]
    refused(client.post("/asr", files=many), 400, "form")


def test_analyze_and_batch_name_the_mistake(client: httpx2.Client) -> None:
    refused(client.post("/analyze", json={"input_data": "AAAA"}), 400, "task_type")
    refused(client.post("/analyze", json={"task_type": "dance"}), 400, "task_type", "asr")
    refused(client.post("/analyze", json={"task_type": "asr", "input_data": "%"}), 400, "input_data")
    bad = {"task_type": "asr", "input_data": "AAAA", "params": {"sample_rate": "fast"}}
    refused(client.post("/analyze", json=bad), 400, "params.sample_rate")
    not_text = {"task_type": "emotion", "input_data": base64.b64encode(b"\xff\xfe").decode()}
    refused(client.post("/analyze", json=not_text), 400, "input_data")
    refused(client.post("/batch", json={}), 400, "tasks")
    refused(client.post("/batch", json={"tasks": [5]}), 400, "tasks[")
    refused(client.post("/batch", json={"tasks": [{"type": "asr"}] * 257}), 400, "256")
    refused(client.post("/setup", json={"models": ["gpt"]}), 400, "models[0]")


def test_101_mb_are_refused_before_they_are_read(client: httpx2.Client, service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
            b"Content-Length: 101000000\r\n\r\n" + WAV
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_without_a_length_is_cut_off_at_the_limit(
    client: httpx2.Client, serve: Callable[..., Service]
) -> None:
    url = serve(AI__REQUEST__MAX_BODY_BYTES="100000").url

    def chunks() -> Iterator[bytes]:
        for _ in range(50):
            yield bytes(10_000)

    response = httpx2.post(f"{url}/api/v1/ai/asr", content=chunks(), headers={"content-type": "audio/wav"})
    refused(response, 413, "100000")


def test_audio_over_the_length_limit_is_a_413(client: httpx2.Client, serve: Callable[..., Service]) -> None:
    url = serve(AI__REQUEST__MAX_AUDIO_SECONDS="0.5").url
    refused(httpx2.post(f"{url}/api/v1/ai/asr", json={"audio_data": b64(WAV)}), 413, "0.5 s")


def test_text_over_the_length_limit_is_a_413(client: httpx2.Client) -> None:
    data_of(client.post("/emotion", json={"text": "x" * 100_000}))
    refused(client.post("/emotion", json={"text": "x" * 100_001}), 413, "text", "100000")
    task = {"task_id": 1, "type": "emotion", "data": {"text": "x" * 100_001}}
    assert "at most 100000" in data_of(client.post("/batch", json={"tasks": [task]}))["results"][0]["error"]


def test_a_slow_upload_is_ended(client: httpx2.Client, serve: Callable[..., Service]) -> None:
    service = serve(AI__REQUEST__UPLOAD_TIMEOUT="300ms")
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        answer = b""
        try:
            while part := connection.recv(4096):
                answer += part
                connection.sendall(b"x")
        except ConnectionError:
            pass  # the service closed the connection while we sent
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_while_it_uploads_leaves_nothing_behind(
    client: httpx2.Client, service: Service
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
            b"Content-Length: 99999\r\n\r\nRIFF"
        )
    service.wait_until(lambda: in_flight(service) == 1)  # this request itself


def test_a_client_that_leaves_cancels_its_work(client: httpx2.Client, service: Service) -> None:
    service.runtime.delay = 30
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(
            b"POST /api/v1/ai/emotion HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b'Content-Length: 13\r\n\r\n{"text":"hi"}'
        )
        service.wait_until(lambda: service.runtime.running == 1)
    service.wait_until(lambda: service.runtime.cancelled == 1)
    assert service.engine.admission.running == 0
    service.runtime.delay = 0


def in_flight(service: Service) -> float:
    text = httpx2.get(f"{service.url}/metrics").text
    line = next(
        line for line in text.splitlines() if line.startswith('ai_requests_in_flight{entrance="http"}')
    )
    return float(line.split()[-1])


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /api/v1/ai/asr HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_bytes_that_are_not_http_are_a_400_and_not_a_crash(
    client: httpx2.Client, service: Service, request_bytes: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(4096)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def raw(service: Service, *pieces: bytes) -> bytes:
    """The service's answer to bytes sent piece by piece, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.02)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    return answer


def check_raw(answer: bytes, status: int, *words: str) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    said = json.loads(body)
    assert said["code"] == status
    assert said["request_id"] in head.decode()
    for word in words:
        assert word in said["message"]


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_offer_of_another_protocol_is_declined_and_the_request_answered(
    client: httpx2.Client, service: Service, pieces: int
) -> None:
    body = json.dumps({"audio_data": b64(WAV)}).encode()
    head = (
        "POST /api/v1/ai/asr?a=b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nUpgrade: %s\r\nConnection: close, Upgrade, HTTP2-Settings\r\n"
        "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    for offered in ("h2c", "websocket"):
        request = (head % offered).encode() + body
        size = -(-len(request) // pieces)
        answer = raw(service, *(request[at : at + size] for at in range(0, len(request), size)))
        check_raw(answer, 200)


def test_many_pipelined_offers_of_another_protocol_are_all_answered(
    client: httpx2.Client, service: Service
) -> None:
    request = (
        b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    last = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert raw(service, 2000 * request + last).count(b"HTTP/1.1 200 ") == 2001


def test_this_is_not_a_proxy(client: httpx2.Client, service: Service) -> None:
    answer = raw(service, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
