"""The WebSocket for browsers, as its clients see it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import SHUT_RDWR
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from inference_service.errors import NotReady
from inference_service.tasks import Task
from tests.service.conftest import Service
from tests.service.streams import pieces, tone

HELLO = {"format": "pcm", "sample_rate": 16000, "channels": 1, "tasks": ["asr"]}

Serve = Callable[..., Service]


@contextmanager
def opened(service: Service, hello: object = HELLO, **options: Any) -> Iterator[ClientConnection]:
    """A WebSocket after the hello."""
    address = f"ws://127.0.0.1:{service.port}/api/v1/ai/stream"
    with connect(address, open_timeout=5, close_timeout=5, **options) as socket:
        socket.send(hello if isinstance(hello, str | bytes) else json.dumps(hello))
        yield socket


def receive(socket: ClientConnection) -> dict[str, Any]:
    """The next message."""
    return json.loads(socket.recv(timeout=10))


def rest(socket: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """All further messages, and the code with which the server then closes."""
    messages = []
    try:
        while True:
            messages.append(receive(socket))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code if closed.rcvd else 1006


def test_a_recording_is_answered_and_the_stream_ends_in_good_order(service: Service) -> None:
    with opened(service, {**HELLO, "stream_id": "s1", "tasks": ["asr", "emotion"]}) as socket:
        ready = receive(socket)
        for part in pieces(tone(2.0), 3200):
            socket.send(part)
        socket.send('{"type": "end"}')
        messages, code = rest(socket)

    assert (ready["type"], ready["sample_rate"]) == ("ready", 16000)
    speech, emotion, end = messages
    assert (end, code) == ({"type": "end"}, 1000)
    assert set(speech) == {
        "type", "stream_id", "sequence", "result_type", "result_data", "confidence", "is_final", "timestamp",
    }  # fmt: skip
    assert (speech["type"], speech["stream_id"], speech["sequence"]) == ("result", "s1", 20)
    assert (speech["result_type"], emotion["result_type"]) == (Task.ASR, Task.EMOTION)
    assert json.loads(speech["result_data"])["duration_ms"] == 2000


def test_text_comes_while_audio_is_sent(service: Service) -> None:
    with opened(service, {**HELLO, "flush_interval_ms": 100, "language": "de-DE"}) as socket:
        assert receive(socket)["type"] == "ready"
        socket.send(tone(1.0))
        partial = receive(socket)
        socket.send('{"type": "end"}')
        final = receive(socket)

    assert (partial["is_final"], final["is_final"]) == (False, True)
    assert json.loads(partial["result_data"])["language"] == "de"


def test_the_defaults_are_those_of_the_grpc_stream(service: Service) -> None:
    with opened(service, {}) as socket:
        ready = receive(socket)
        socket.send(tone(1.0, 48000))
        socket.send('{"type": "end"}')
        [result, _], _ = rest(socket)

    assert (ready["format"], ready["sample_rate"], ready["channels"]) == ("pcm", 48000, 1)
    assert json.loads(result["result_data"])["duration_ms"] == 1000


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (b"\x00\x01", "the first message must be the hello"),
        ("not json", "hello: JSON is malformed"),
        ('{"sample_rate": "fast"}', "hello: Expected `int | null`, got `str` - at `$.sample_rate`"),
        ('{"sampel_rate": 16000}', "unknown field `sampel_rate`"),
        ({"sample_rate": 3}, "sample_rate: 3 is not allowed"),
        ({"channels": 900}, "channels: 900 is not allowed"),
        ({"tasks": ["karaoke"]}, "karaoke"),
        ({"format": "caf"}, "cannot be streamed"),
        ({"language": "??"}, "language: expected a language tag"),
        ({"flush_interval_ms": 3}, "flush_interval_ms: 3 is not allowed"),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused_with_the_reason(
    service: Service, hello: object, reason: str
) -> None:
    with opened(service, hello) as socket:
        messages, code = rest(socket)

    error = messages[-1]
    assert (error["type"], error["code"], code) == ("error", 400, 1007)
    assert reason in error["message"]


@pytest.mark.parametrize(
    ("message", "reason"), [("{", "a text message"), ('{"type": "stop"}', 'only "end" is')]
)
def test_what_was_sent_before_a_bad_message_is_answered_first(
    service: Service, message: str, reason: str
) -> None:
    with opened(service) as socket:
        receive(socket)
        socket.send(tone(1.0))
        socket.send(message)
        [result, error], code = rest(socket)

    assert (result["type"], error["type"], code) == ("result", "error", 1007)
    assert reason in error["message"]


def test_audio_that_ends_in_the_middle_of_a_sample_is_an_error(service: Service) -> None:
    with opened(service) as socket:
        receive(socket)
        socket.send(tone(1.0) + b"x")
        socket.send('{"type": "end"}')
        [result, error], code = rest(socket)

    assert (result["is_final"], code) == (True, 1007)
    assert "middle of a frame" in error["message"]


def test_a_runtime_that_is_away_ends_the_stream_with_the_reason(service: Service) -> None:
    service.runtime.error = NotReady("Triton cannot be reached")
    with opened(service) as socket:
        receive(socket)
        socket.send(tone(1.0))
        socket.send('{"type": "end"}')
        assert rest(socket) == (
            [{"type": "error", "code": 503, "message": "Triton cannot be reached"}], 1013,
        )  # fmt: skip


def test_a_node_whose_model_is_not_loaded_refuses_the_handshake_so_another_node_can_be_asked(
    service: Service,
) -> None:
    service.runtime.unloaded = NotReady("model asr is not ready: it is not loaded")
    with pytest.raises(InvalidStatus) as refused, opened(service):
        pass
    assert refused.value.response.status_code == 503
    assert "model asr is not ready" in json.loads(refused.value.response.body)["message"]


def test_a_silent_client_is_asked_to_leave(serve: Serve) -> None:
    with opened(serve(AI__STREAMING__IDLE_TIMEOUT="200ms")) as socket:
        receive(socket)
        [error], code = rest(socket)

    assert (error["code"], code) == (408, 1008)


def test_a_full_node_takes_no_more_streams(serve: Serve) -> None:
    service = serve(SERVER__MAX_STREAMS="1")
    with opened(service) as first:
        receive(first)
        with opened(service) as second:
            [error], code = rest(second)

    assert (error["code"], code) == (503, 1013)


def test_a_client_that_vanishes_leaves_nothing_behind(service: Service) -> None:
    service.runtime.delay = 3600
    with opened(service, {**HELLO, "flush_interval_ms": 100}) as socket:
        receive(socket)
        socket.send(tone(1.0))
        wait_until(lambda: service.runtime.running == 1)
        socket.socket.shutdown(SHUT_RDWR)
    wait_until(lambda: service.runtime.cancelled == 1)
    wait_until(lambda: service.engine.streams.open == 0)


def test_a_draining_node_answers_what_was_sent_and_says_that_it_restarts(serve: Serve) -> None:
    service = serve(SERVER__SHUTDOWN_GRACE="2s")
    with opened(service) as socket:
        receive(socket)
        socket.send(tone(1.0))
        wait_until(lambda: service.engine.streams.open == 1)
        service.terminate()
        [result, error], code = rest(socket)

    assert json.loads(result["result_data"])["duration_ms"] == 1000
    assert (error["code"], code) == (503, 1012)


@pytest.mark.parametrize(
    "options",
    [
        {"additional_headers": {"Authorization": "Bearer secret"}},
        {"additional_headers": {"X-API-Key": "secret"}},
        {"subprotocols": ["ai-stream", "api-key.secret"]},
    ],
)
def test_a_key_comes_as_a_header_or_from_browsers_as_a_subprotocol(
    serve: Serve, options: dict[str, Any]
) -> None:
    with opened(serve(SERVER__API_KEYS="secret"), **options) as socket:
        assert receive(socket)["type"] == "ready"
        assert socket.subprotocol in (None, "ai-stream")


@pytest.mark.parametrize("options", [{}, {"subprotocols": ["ai-stream", "api-key.wrong"]}])
def test_without_an_accepted_key_there_is_no_handshake(serve: Serve, options: dict[str, Any]) -> None:
    service = serve(SERVER__API_KEYS="secret")
    with pytest.raises(InvalidStatus) as refused, opened(service, **options):
        pass
    assert refused.value.response.status_code == 401
    assert "API key" in json.loads(refused.value.response.body)["message"]


def test_the_playground_and_its_files_need_no_key(serve: Serve) -> None:
    url = serve(SERVER__API_KEYS="secret").url
    page = httpx2.get(f"{url}/demo")

    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for address in re.findall(r'(?:src|href)="(demo/[^"]+)"', page.text):
        file = httpx2.get(f"{url}/{address}")
        assert (file.status_code, len(file.content) > 100) == (200, True), address
    assert httpx2.get(f"{url}/demo/").headers["location"] == "../demo"
    assert httpx2.get(f"{url}/demo/playground.html").status_code == 404
    assert httpx2.get(f"{url}/demo/..%2f..%2f__init__.py").status_code == 404


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits at most 5 s for an action of the server."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 5 s"
        time.sleep(0.01)
