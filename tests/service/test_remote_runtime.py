"""The remote runtime against a real inference service, and against one that misbehaves."""

from __future__ import annotations

import asyncio
import base64
import http.server
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from inference_service.audio import Audio, Limits, Recording, decode
from inference_service.errors import (
    BadRequest,
    Busy,
    NotReady,
    RuntimeFailed,
    RuntimeTimeout,
    ServiceError,
    TooLarge,
    Unsupported,
)
from inference_service.runtimes.base import Call
from inference_service.runtimes.remote import RemoteRuntime, as_wav
from inference_service.settings import Settings, load
from inference_service.tasks import Task, TranscribeOptions
from tests.ports import free_ports
from tests.service.conftest import Service

CALL = Call("request-7", meeting_id="42")
SECOND = Audio(np.arange(-8000, 8000, dtype=np.int16), 16000)


@asynccontextmanager
async def remote(endpoint: str, **http: Any) -> AsyncIterator[RemoteRuntime]:
    runtime = RemoteRuntime(Settings.model_validate({"ai": {"http": {"endpoint": endpoint, **http}}}))
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


@contextmanager
def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers every request with this. Yields its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def envelope(data: Any, message: str = "success") -> bytes:
    return json.dumps({"code": 200, "message": message, "data": data, "request_id": "x"}).encode()


@pytest.mark.parametrize(
    "samples",
    [
        np.arange(-100, 100, dtype=np.int16),
        np.linspace(-1, 1, 200, dtype=np.float32),
    ],
)
def test_audio_is_sent_as_the_same_samples(samples: np.ndarray) -> None:
    header, body = as_wav(Audio(samples, 22050))
    received = decode(Recording(header + bytes(body)), Limits(1, rate=22050))
    assert received.sample_rate == 22050
    assert np.array_equal(received.samples, samples)


@pytest.mark.parametrize("nodes", [1, 2])
def test_nodes_that_forward_to_themselves_say_so(tmp_path: Path, nodes: int) -> None:
    ports = free_ports(nodes)
    running = []
    for number, port in enumerate(ports):
        settings = load(
            None,
            {
                "AI__HTTP__ENDPOINT": f"http://127.0.0.1:{ports[(number + 1) % nodes]}",
                "SERVER__HTTP_PORT": str(port),
                "SERVER__RUNTIME_DIR": str(tmp_path / str(number)),
            },
        )[0]
        running.append(Service(settings, RemoteRuntime(settings)))
        running[-1].start()
    try:
        body = {"audio_data": base64.b64encode(bytes(3200)).decode(), "format": "pcm"}
        response = httpx2.post(f"{running[0].url}/api/v1/ai/asr", json=body, timeout=20)
        assert response.status_code == 508
        assert "leads to its own gateway" in response.json()["message"]
    finally:
        for node in running:
            node.stop()


async def test_every_task_gets_the_other_service_s_answer(service: Any) -> None:
    async with remote(service.url) as runtime:
        heard = await runtime.transcribe(SECOND, TranscribeOptions(language="de"), CALL)
        assert heard.transcript.text == "16000 samples at 16000 Hz"
        assert (heard.transcript.language, heard.transcript.duration_ms) == ("de", 1000)
        assert (await runtime.emotion_of_audio(SECOND, CALL)).emotions == {"neutral": 0.75, "happy": 0.25}
        assert (await runtime.emotion_of_text("well", CALL)).emotion == "happy"
        assert (await runtime.detect_synthesis(SECOND, CALL)).score == 0.25
        status = await runtime.warm(Task.EMOTION, CALL)
        assert (status.model_name, status.ready) == ("emotion", True)
        assert (await runtime.readiness()).ready
    other = service.runtime
    assert np.array_equal(other.audios[0].samples, SECOND.samples)
    assert other.texts == ["well"]
    assert {(call.request_id, call.meeting_id) for call in other.calls} == {("request-7", "42")}


async def test_the_token_is_sent(serve: Callable[..., Any]) -> None:
    service = serve(SERVER__API_KEYS="secret")

    async with remote(service.url, token="secret") as runtime:
        assert (await runtime.emotion_of_audio(SECOND, CALL)).emotion == "neutral"
    async with remote(service.url, token="other") as runtime:
        with pytest.raises(RuntimeFailed, match=r"refuses the token \(ai\.http\.token\)"):
            await runtime.emotion_of_audio(SECOND, CALL)


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("audio has no samples"),
        TooLarge("audio is too long"),
        Unsupported("not here"),
        Busy("the node is full", retry_after=7),
        NotReady("model asr is not ready"),
        RuntimeTimeout("took too long"),
    ],
)
async def test_a_refusal_is_the_same_error_here(service: Any, error: ServiceError) -> None:
    service.runtime.error = error

    async with remote(service.url) as runtime:
        with pytest.raises(type(error), match=str(error)) as refused:
            await runtime.detect_synthesis(SECOND, CALL)
        if isinstance(error, Busy):
            assert refused.value.retry_after == 7


async def test_readiness_is_the_other_service_s_own(service: Any) -> None:
    service.runtime.problems = ["model asr is not ready: no weights"]

    async with remote(service.url) as runtime:
        readiness = await runtime.readiness()
        assert not readiness.ready
        assert readiness.problems == ["model asr is not ready: no weights"]
    async with remote("http://127.0.0.1:9") as runtime:
        readiness = await runtime.readiness()
        # Clients read this: it names no address.
        assert readiness.problems == ["the remote service (ai.http.endpoint) cannot be reached"]
        with pytest.raises(NotReady):
            await runtime.emotion_of_text("hello", CALL)


async def test_a_slow_service_is_given_up(service: Any) -> None:
    service.runtime.delay = 60

    async with remote(service.url, timeout=0.3) as runtime:
        begun = time.monotonic()
        with pytest.raises(RuntimeTimeout, match=r"did not answer within 0\.3 s"):
            await runtime.emotion_of_audio(SECOND, CALL)
        assert time.monotonic() - begun < 30
    async with remote(service.url) as runtime:
        with pytest.raises(RuntimeTimeout, match=r"within 0\.2 s"):
            await runtime.emotion_of_audio(SECOND, Call("r", timeout=0.2))


async def until(true: Callable[[], bool]) -> None:
    """Waits on the event loop itself: a polling thread would compete with it for the interpreter."""
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - what it waits for is in another thread
            await asyncio.sleep(0.01)


async def test_cancelling_cancels_the_work_over_there(service: Any) -> None:
    service.runtime.delay = 60  # so that only a cancellation ends it

    async with remote(service.url) as runtime:
        task = asyncio.create_task(runtime.emotion_of_audio(SECOND, CALL))
        await until(lambda: service.runtime.running == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: service.runtime.cancelled == 1)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            200,
            envelope({"text": "a", "language": "en", "duration_ms": 1}),
            "missing required field `confidence`",
        ),
        (200, envelope({"text": 1, "confidence": 1, "language": "en", "duration_ms": 1}), "Expected `str`"),
        (200, b"{}", "has no field data"),
        (200, b"<html>hello</html>", "answered 200, but not with this service's JSON"),
        (500, b"oops", "answered 500, but not with this service's JSON"),
        (404, envelope(None, "no such route"), "answered 404: no such route"),
    ],
)
async def test_an_unusable_answer_is_reported_as_one(status: int, body: bytes, reason: str) -> None:
    with answering(status, body) as url:
        async with remote(url) as runtime:
            with pytest.raises(RuntimeFailed, match=reason):
                await runtime.transcribe(SECOND, TranscribeOptions(), CALL)


async def test_a_gateway_without_nodes_is_not_ready() -> None:
    with answering(502, envelope(None, "no upstream")) as url:
        async with remote(url) as runtime:
            with pytest.raises(NotReady, match="no upstream"):
                await runtime.emotion_of_text("hello", CALL)
