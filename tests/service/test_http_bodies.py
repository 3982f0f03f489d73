"""Bodies as clients send them: compressed, with a byte-order mark, with numbers as text."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Callable
from contextlib import closing

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.sync.client import connect

from inference_service.budget import Budget
from inference_service.errors import BadRequest, Busy, TooLarge
from inference_service.http.compression import unpack
from tests.service.conftest import Service
from tests.service.test_http_routes import PCM, data_of, wav

JSON = json.dumps({"audio_data": base64.b64encode(wav()).decode()}).encode()


def bare_deflate(data: bytes) -> bytes:
    """Deflate data without zlib's header, which some clients send although the standard wants it."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS = {
    "gzip": gzip.compress,
    "x-gzip": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]) + bytes(512),
    "deflate": zlib.compress,
    "Deflate, identity": bare_deflate,
}


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize(("kind", "body"), [("application/json", JSON), ("audio/wav", wav())])
def test_a_body_may_be_compressed(client: httpx2.Client, coding: str, kind: str, body: bytes) -> None:
    headers = {"content-type": kind, "content-encoding": coding}
    answer = data_of(client.post("/asr", content=PACKERS[coding](body), headers=headers))
    assert answer["text"] == "16000 samples at 16000 Hz"


def test_an_openai_form_may_be_compressed(service: Service) -> None:
    form = httpx2.Request("POST", service.url, files={"file": ("a.wav", wav())}, data={"model": "whisper-1"})
    answer = httpx2.post(
        f"{service.url}/v1/audio/transcriptions",
        content=gzip.compress(form.read()),
        headers={"content-type": form.headers["content-type"], "content-encoding": "gzip"},
    )
    assert answer.json()["text"] == "16000 samples at 16000 Hz"


def refused(client: httpx2.Client, content: bytes, coding: str) -> tuple[int, str]:
    headers = {"content-type": "audio/wav", "content-encoding": coding}
    answer = client.post("/asr", content=content, headers=headers)
    if answer.status_code == 415:
        assert answer.headers["accept-encoding"] == "gzip, deflate"
    return answer.status_code, answer.json()["message"]


@pytest.mark.parametrize(
    ("content", "coding", "status", "reason"),
    [
        (wav(), "br", 415, "Content-Encoding br is not supported; send gzip or deflate"),
        (wav(), "gzip, gzip", 415, "Content-Encoding gzip, gzip is not supported"),
        (wav(), "gzip", 400, "the body is not gzip, as Content-Encoding says"),
        (wav(), "deflate", 400, "the body is not deflate, as Content-Encoding says"),
        (gzip.compress(wav())[:-9], "gzip", 400, "the body ends in the middle of its gzip data"),
        (b"", "gzip", 400, "the body ends in the middle of its gzip data"),
        (zlib.compress(wav()) + b"more", "deflate", 400, "the body goes on after its deflate data"),
        (gzip.compress(b"") * 5000, "gzip", 400, "the body goes on after its gzip data"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_with_the_reason(
    client: httpx2.Client, content: bytes, coding: str, status: int, reason: str
) -> None:
    found, message = refused(client, content, coding)
    assert found == status
    assert message.startswith(reason)


def test_the_limit_of_a_body_holds_after_it_is_unpacked(serve: Callable[..., Service]) -> None:
    service = serve(AI__REQUEST__MAX_BODY_BYTES="100000")
    with httpx2.Client(base_url=f"{service.url}/api/v1/ai") as client:
        status, message = refused(client, gzip.compress(bytes(50_000_000)), "gzip")
    assert (status, message.partition(",")[0]) == (413, "the body is larger than 100000 bytes")


@given(st.binary(max_size=200_000), st.sampled_from(sorted(PACKERS)))
def test_unpacking_gives_back_what_was_packed_and_holds_it(data: bytes, coding: str) -> None:
    budget = Budget(1 << 30)
    with closing(budget.stream()) as lease:
        name = "gzip" if "gzip" in coding else "deflate"
        assert unpack(PACKERS[coding](data), name, max_bytes=len(data), lease=lease) == data
        assert budget.held == len(data)
    assert budget.held == 0


@given(st.binary(max_size=300), st.sampled_from(["gzip", "deflate"]))
def test_damaged_bodies_are_refused_and_nothing_else(data: bytes, coding: str) -> None:
    with closing(Budget(1 << 30).stream()) as lease:
        try:
            unpack(data, coding, max_bytes=1000, lease=lease)
        except (BadRequest, TooLarge):
            return


def test_a_bomb_stops_at_the_byte_budget() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    budget = Budget(20_000_000)
    with closing(budget.stream()) as lease, pytest.raises(Busy):
        unpack(bomb, "gzip", max_bytes=1 << 30, lease=lease)
    assert budget.held == 0


def test_json_may_begin_with_a_byte_order_mark(client: httpx2.Client) -> None:
    headers = {"content-type": "application/json"}
    data_of(client.post("/asr", content=b"\xef\xbb\xbf" + JSON, headers=headers))
    data_of(client.post("/setup", content=b"\xef\xbb\xbf{}", headers=headers))
    refusal = client.post("/asr", content=JSON.decode().encode("utf-16"), headers=headers)
    assert (refusal.status_code, refusal.json()["message"]) == (400, "the body is UTF-16; send JSON in UTF-8")


@pytest.mark.parametrize("as_sent", [str, float, int, lambda number: f" {number} "])
def test_numbers_may_be_text(
    client: httpx2.Client, service: Service, as_sent: Callable[[int], object]
) -> None:
    pcm = base64.b64encode(PCM).decode()
    described = {"format": "pcm", "sample_rate": as_sent(8000), "channels": as_sent(2)}
    assert data_of(client.post("/asr", json={"audio_data": pcm, **described}))["duration_ms"] == 1000
    task = {"task_type": "asr", "input_data": pcm, "params": described}
    assert data_of(client.post("/analyze", json=task))["result"]["duration_ms"] == 1000


def test_an_empty_form_field_in_json_is_absent(client: httpx2.Client) -> None:
    described = {"sample_rate": "", "channels": "", "language": "", "format": ""}
    body = {"audio_data": base64.b64encode(wav()).decode(), **described}
    assert data_of(client.post("/asr", json=body))["duration_ms"] == 1000


@pytest.mark.parametrize("wrong", ["many", "16 kHz", "1e4", "-1", "16000.5"])
def test_text_that_is_no_number_is_refused_by_its_field(client: httpx2.Client, wrong: str) -> None:
    body = {"audio_data": "AAAA", "format": "pcm", "sample_rate": wrong}
    answer = client.post("/asr", json=body)
    assert (answer.status_code, answer.json()["message"].partition(":")[0]) == (400, "sample_rate")


def test_the_hello_of_a_websocket_takes_numbers_as_text(service: Service) -> None:
    with connect(f"ws://127.0.0.1:{service.port}/api/v1/ai/stream") as socket:
        socket.send(json.dumps({"sample_rate": "16000", "channels": "1", "flush_interval_ms": "500"}))
        ready = json.loads(socket.recv(timeout=10))
    assert (ready["type"], ready["sample_rate"], ready["flush_interval_ms"]) == ("ready", 16000, 500)
