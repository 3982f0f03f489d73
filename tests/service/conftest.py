"""Fixtures of the service tests: a runtime that answers without models, and a real server around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
import uvicorn

from inference_service.app import create_app
from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import ServiceError
from inference_service.http.protocol import HttpProtocol
from inference_service.http.websocket import StreamProtocol
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.runtimes.base import Call, Readiness, Runtime
from inference_service.settings import Settings, load
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TranscribeOptions,
    Transcript,
)
from tests.ports import free_port

_T = TypeVar("_T")


class DoubleRuntime:
    """A test double. It answers at once with its input (never with a model's opinion), after `delay` seconds,
    when `hold` is cleared, or with `error`. It records its calls and counts the cancelled ones."""

    name = "triton"
    address = "double.invalid"
    window_seconds: float | None = 30.0

    def __init__(self) -> None:
        self.capabilities = frozenset(Task)
        self.delay = 0.0
        self.hold = False
        self.error: Exception | None = None
        self.unloaded: ServiceError | None = None
        self.problems: list[str] = []
        self.cards: dict[ModelRole, ModelDescription] = {}
        self.running = 0
        self.most_running = 0
        self.cancelled = 0
        self.audios: list[Audio] = []
        self.texts: list[str] = []
        self.options: list[TranscribeOptions] = []
        self.calls: list[Call] = []

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def readiness(self) -> Readiness:
        return Readiness(not self.problems, list(self.problems))

    def known(self, role: ModelRole) -> ModelDescription | None:
        return self.cards.get(role)

    async def describe(self, role: ModelRole) -> ModelDescription:
        if self.unloaded is not None:
            raise self.unloaded
        return self.cards.get(role) or ModelDescription(name=role)

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        await self._work(call)
        return ModelStatus(model_name=task.model, ready=True, model_path=f"/models/{task.model}")

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        self.audios.append(audio)
        self.options.append(options)
        await self._work(call)
        text = f"{audio.frames} samples at {audio.sample_rate} Hz"
        return DetailedTranscript(Transcript(text, 0.9, options.language or "en", audio.duration_ms))

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        self.audios.append(audio)
        await self._work(call)
        return EmotionResult("neutral", 0.75, {"neutral": 0.75, "happy": 0.25}, audio.duration_ms)

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        self.texts.append(text)
        await self._work(call)
        return EmotionResult("happy", 0.75, {"neutral": 0.25, "happy": 0.75}, 0)

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        self.audios.append(audio)
        await self._work(call)
        return SynthesisResult(False, 0.75, 0.25, audio.duration_ms)

    async def _work(self, call: Call) -> None:
        self.calls.append(call)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await asyncio.sleep(self.delay)
            while self.hold:  # noqa: ASYNC110 - other threads set it, and an asyncio.Event is not theirs
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error


class Service:
    """One worker's application on a loopback port, in a thread of this process."""

    def __init__(self, settings: Settings, runtime: Runtime | None = None) -> None:
        """`runtime` None: a DoubleRuntime, which `self.runtime` is."""
        self.runtime = DoubleRuntime()
        self.engine = Engine(settings, runtime or self.runtime)
        self.port = settings.server.http_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(self.engine),
                host="127.0.0.1",
                port=self.port,
                log_config=None,
                access_log=False,
                lifespan="on",
                http=HttpProtocol,
                ws=StreamProtocol,
            )
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._server.serve())

    def start(self) -> None:
        self._thread.start()
        for _ in range(500):
            if self._server.started:
                return
            threading.Event().wait(0.01)
        raise AssertionError("the service did not start within 5 s")

    def in_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs `work` in the service's own event loop and returns its result."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def terminate(self) -> None:
        """Begins to stop, as a worker does after SIGTERM."""

        async def drain() -> None:
            self.engine.drain()

        self.in_loop(drain())
        self._server.should_exit = True

    @contextmanager
    def meanwhile(self, work: Callable[[], object]) -> Iterator[None]:
        """Runs `work` in another thread during the block."""
        thread = threading.Thread(target=work)
        thread.start()
        yield
        thread.join(20)

    def wait_until(self, true: Callable[[], bool], seconds: float = 60.0) -> None:
        """Waits until the condition is true, and fails the test if it does not become so."""
        for _ in range(int(seconds / 0.01)):
            if true():
                return
            threading.Event().wait(0.01)
        raise AssertionError(f"did not come true within {seconds} s")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the service did not stop within 10 s"


def settings_in(directory: Path, **environment: str) -> Settings:
    """Settings of one worker that keeps its files in `directory`. `environment` has the service's
    variables."""
    defaults = {
        "SERVER__WORKERS": "1",
        "SERVER__RUNTIME_DIR": str(directory),
        "SERVER__HTTP_PORT": str(free_port()),
    }
    return load(None, {**defaults, **environment})[0]


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Settings]:
    """`settings(SERVER__MAX_QUEUE="1", …)`: settings of one worker, with its files in the test's folder."""

    def make(**environment: str) -> Settings:
        return settings_in(tmp_path, **environment)

    return make


@pytest.fixture
def serve(settings: Callable[..., Settings]) -> Iterator[Callable[..., Service]]:
    """`serve(SERVER__MAX_QUEUE="1", …)`: a running service with those settings, stopped after the test."""
    running: list[Service] = []

    def start(**environment: str) -> Service:
        service = Service(settings(**environment))
        service.start()
        running.append(service)
        return service

    yield start
    for service in running:
        service.stop()


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One running service with the default settings, for all tests that need no other."""
    service = Service(settings_in(tmp_path_factory.mktemp("service")))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(shared_service: Service) -> Service:
    """A running service with the default settings and a reset runtime."""
    # The service notices later that the previous test's client left; its cancelled call would count here.
    shared_service.wait_until(lambda: shared_service.runtime.running == 0, seconds=20)
    shared_service.runtime.__init__()  # type: ignore[misc]
    shared_service.engine._readiness.forget()
    return shared_service


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    """A client of `service`, with the API's base address."""
    with httpx2.Client(base_url=f"{service.url}/api/v1/ai", timeout=20) as client:
        yield client
