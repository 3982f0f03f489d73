"""A real Chromium for the tests, driven by Playwright. Without an installed one they are skipped."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import soundfile
from playwright.sync_api import Browser, Page, sync_playwright

from infra.paths import PACKAGE
from tests.browser.counting import Counting
from tests.service.conftest import Service, settings_in

RECORDING = PACKAGE / "recordings" / "inaugural-1961.flac"

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


#: A name of this computer that is not localhost: pages from it over plain HTTP get no microphone.
ELSEWHERE = "ai.example.com"


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser's microphone hears, once: a WAV file of the bundled recording."""
    path = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    samples, rate = soundfile.read(RECORDING)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(spoken: Path) -> Iterator[Browser]:
    """Chromium without a window, whose microphone hears the recording when a page opens it.

    Playwright keeps an event loop running in this thread, so it stops with the module: tests of other modules
    call `asyncio.run`.
    """
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    # Chromium's sandbox refuses to run as root.
    arguments = [
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={spoken}%noloop",
        "--autoplay-policy=no-user-gesture-required",
        f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose runtime is `Counting`, for all tests of pages."""
    running = Service(settings_in(tmp_path_factory.mktemp("service")), runtime := Counting())
    running.runtime = runtime
    running.start()
    yield running
    running.stop()


@pytest.fixture
def node(counting: Service) -> Service:
    """The same with a reset runtime."""
    counting.runtime.__init__()  # type: ignore[misc]
    counting.engine._readiness.forget()
    return counting


@pytest.fixture(scope="session")
def other_origin() -> Iterator[str]:
    """The origin of a site that serves an empty page and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>a page of another origin</title>")

        def log_message(self, *_: object) -> None:
            """No log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def page(browser: Browser, other_origin: str) -> Iterator[Page]:
    """The page of `other_origin`, in a context of its own."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(other_origin)
    yield page
    context.close()
