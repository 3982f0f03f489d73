"""The byte budget: what clients make a node hold is bounded. A full budget says when to try again."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import httpx2
import pytest

from inference_service.budget import Budget
from inference_service.errors import Busy
from inference_service.settings import Settings, SettingsError, load, shares
from tests.service.conftest import Service
from tests.service.test_http_routes import b64, data_of, wav

BODY = 1_000_000
LIMITS = {"AI__REQUEST__MAX_BODY_BYTES": str(BODY), "SERVER__BYTE_BUDGET": str(4 * BODY)}


def unfinished(service: Service, sent: int, declared: int = BODY, path: str = "asr") -> socket.socket:
    """Sends `sent` of the `declared` bytes of a body, and returns the open connection."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=20)
    head = f"POST /api/v1/ai/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: audio/wav\r\n"
    connection.sendall(f"{head}Content-Length: {declared}\r\n\r\n".encode() + bytes(sent))
    return connection


def test_bodies_that_never_end_hold_no_more_than_the_budget(serve: Callable[..., Service]) -> None:
    service = serve(**LIMITS)
    with ExitStack() as uploads:
        for _ in range(8):
            uploads.enter_context(unfinished(service, BODY - 1))
        service.wait_until(lambda: service.engine.budget.held > 1.5 * BODY)
        with httpx2.Client(base_url=service.url, timeout=20) as client:
            response = client.post(
                "/api/v1/ai/asr", content=bytes(BODY - 1), headers={"content-type": "audio/wav"}
            )
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
            assert "bytes" in response.json()["message"]
            assert client.get("/health").status_code == 200
        assert service.engine.budget.held <= 3 * BODY
    # Their clients are gone, and so is what they held.
    service.wait_until(lambda: service.engine.budget.held == 0)
    with httpx2.Client(base_url=service.url, timeout=20) as client:
        data_of(client.post("/api/v1/ai/asr", json={"audio_data": b64(wav())}))


def test_uploads_that_stall_hold_what_they_sent_and_not_what_they_announce(
    serve: Callable[..., Service],
) -> None:
    service = serve(**LIMITS)
    with ExitStack() as uploads:
        for _ in range(4):
            uploads.enter_context(unfinished(service, 1000))
        service.wait_until(lambda: service.engine.budget.held > 0)
        with httpx2.Client(base_url=service.url, timeout=20) as client:
            data_of(client.post("/api/v1/ai/asr", json={"audio_data": b64(wav())}))


@pytest.mark.parametrize("end", ["answered", "refused", "cancelled"])
def test_every_end_of_a_request_gives_its_bytes_back(serve: Callable[..., Service], end: str) -> None:
    service = serve(**LIMITS)
    audio = b"" if end == "refused" else wav()
    service.runtime.hold = end == "cancelled"
    with httpx2.Client(base_url=service.url, timeout=20) as client:
        body = {"content": audio + bytes(100_000), "headers": {"content-type": "audio/wav"}}
        if end == "cancelled":
            with pytest.raises(httpx2.TimeoutException):
                client.post("/api/v1/ai/asr", timeout=1.0, **body)
            service.wait_until(lambda: service.runtime.cancelled == 1)
        else:
            assert client.post("/api/v1/ai/asr", **body).status_code == (200 if end == "answered" else 400)
    service.wait_until(lambda: service.engine.budget.held == 0)


@pytest.mark.fast
def test_open_streams_find_room_when_requests_do_not() -> None:
    budget = Budget(100)
    with budget.request() as request:
        request.take(75)
        with pytest.raises(Busy, match="75 bytes"):
            request.take(1)
        stream = budget.stream()
        stream.take(25)
        with pytest.raises(Busy):
            stream.take(1)
        stream.close()
    assert budget.held == 0


@pytest.mark.fast
def test_a_thread_that_works_for_an_ended_request_stops_at_its_next_bytes() -> None:
    budget = Budget(100)
    with budget.request() as request:
        request.take(10)
    with pytest.raises(Busy, match="ended"):
        request.take(1)
    request.give(10)
    assert budget.held == 0


@pytest.mark.fast
def test_threads_that_take_and_give_at_once_lose_no_byte() -> None:
    budget = Budget(1_000_000)
    lease = budget.stream()

    def work() -> None:
        for _ in range(2000):
            lease.take(3)
            lease.give(2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.held == lease.size == 8000


@pytest.mark.fast
def test_the_workers_share_the_nodes_budget_exactly() -> None:
    def node(**environment: str) -> Settings:
        return load(None, environment)[0]

    three = node(SERVER__WORKERS="3", SERVER__BYTE_BUDGET="2000000001")
    held = [shares.for_worker(three, index).byte_budget for index in range(3)]
    assert sum(held) == 2_000_000_001
    assert max(held) - min(held) <= 1
    assert node().byte_budget == 1_000_000_000
    assert node(SERVER__WORKERS="10").byte_budget == 4_000_000_000, "a worker could not read the largest body"


@pytest.mark.fast
def test_a_budget_that_cannot_hold_the_largest_body_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"server\.byte_budget: 399999999 bytes .* at least 400000000"):
        load(None, {"SERVER__BYTE_BUDGET": "399999999", "SERVER__WORKERS": "1"})
