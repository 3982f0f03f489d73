"""The command-line client where something fails: one line, a status for scripts, no wait without end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from inference_service.client import __main__ as command_line
from inference_service.client import batch, over_grpc, over_websocket, upload, watch
from inference_service.errors import NotReady
from tests.ports import free_port
from tests.service.conftest import Service
from tests.service.test_client import Run, grpc_address, recording, speech  # noqa: F401

WAYS: dict[str, list[str]] = {
    "http": ["--url", "http://{address}"],
    "grpc": ["--grpc", "{address}"],
    "websocket": ["--url", "http://{address}", "--realtime"],
    "grpc stream": ["--grpc", "{address}", "--realtime"],
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """`way("host:port")`: the arguments for one way to send a recording."""
    return lambda address: [word.format(address=address) for word in WAYS[request.param]]


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of tenths of seconds, so that the tests of silence are short."""
    monkeypatch.setattr(upload, "CONNECT_SECONDS", 0.3)
    # Longer than a refused connection takes on a busy machine.
    monkeypatch.setattr(watch, "LOOK_EVERY", 1.0)
    monkeypatch.setattr(over_websocket, "_CONNECT_SECONDS", 0.3)
    options = [each for each in over_grpc._OPTIONS if "backoff" not in each[0]]
    monkeypatch.setattr(over_grpc, "_OPTIONS", [*options, ("grpc.min_reconnect_backoff_ms", 300)])


def test_a_service_that_is_away_is_reported_at_once(
    speech: Run,
    recording: Path,
    way: Callable[[str], list[str]],
) -> None:
    address = f"127.0.0.1:{free_port()}"
    status, output, errors = speech("transcribe", recording, *way(address))
    assert (status, output) == (batch.TRY_LATER, "")
    assert address in errors
    assert "cannot be reached" in errors
    assert len(errors.splitlines()) == 1


@contextmanager
def silent_server() -> Iterator[str]:
    """`host:port` of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_service_that_is_silent_is_not_waited_for(
    speech: Run,
    recording: Path,
    way: Callable[[str], list[str]],
) -> None:
    with silent_server() as address:
        status, output, errors = speech("transcribe", recording, *way(address))
    assert (status, output) == (batch.TRY_LATER, "")
    assert address in errors
    assert len(errors.splitlines()) == 1


def test_an_answer_may_take_long_while_the_service_lives(
    speech: Run,
    service: Service,
    recording: Path,
) -> None:
    service.runtime.delay = 1.0
    assert speech("transcribe", recording, "--url", service.url)[0] == 0


def test_an_answer_may_not_take_longer_than_is_said(
    speech: Run,
    service: Service,
    grpc_address: str,
    recording: Path,
) -> None:
    service.runtime.delay = 3.0
    status, _, errors = speech("transcribe", recording, "--url", service.url, "--timeout", "1")
    assert (status, "no answer within 1 s" in errors) == (batch.TRY_LATER, True)


def test_a_node_that_cannot_answer_now_is_worth_another_try(
    speech: Run,
    service: Service,
    recording: Path,
) -> None:
    service.runtime.error = NotReady("asr: is not loaded")
    status, _, errors = speech("transcribe", recording, "--url", service.url)
    assert (status, "asr: is not loaded" in errors) == (batch.TRY_LATER, True)


def test_a_recording_over_the_limit_is_refused_although_it_is_not_read(
    speech: Run,
    serve: Callable[..., Service],
    tmp_path: Path,
) -> None:
    service = serve(AI__REQUEST__MAX_BODY_BYTES="100000")
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(10_000_000, dtype="int16"), 16000)
    status, _, errors = speech("transcribe", path, "--url", service.url)
    assert (status, "larger than 100000 bytes" in errors) == (batch.FAILED, True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--grpc", "localhost"], "expected HOST:PORT"),
        (["--grpc", "http://localhost:9080"], "expected HOST:PORT"),
        (["--rate", "0"], "expected more than 0"),
        (["--channels", "two"], "expected a whole number"),
        (["--partial", "-1"], "expected"),
        (["--input-format", "tape"], "expected one of wav"),
        (["--format", "tape"], "expected one of txt, srt, vtt, json"),
        (["--format", "mulaw"], "--input-format mulaw"),
        (["--task", "singing"], "asr"),
        (["--microphone"], "takes no FILE"),
        (["--format", "srt", "--grpc", "localhost:9080"], "does not go with --grpc"),
        (["--task", "emotion", "--format", "vtt"], "is for speech"),
        (["--task", "emotion", "--realtime"], "is for whole recordings"),
        (["--format", "srt", "second.wav"], "needs --beside or --output-dir"),
        (["--format", "srt", "--json"], "give one of them"),
        (["--output-dir", "texts", "folder/talk.wav"], "would be the result of two recordings"),
    ],
)
def test_wrong_arguments_are_named(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    named: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["speech", "transcribe", "talk.wav", *words])
    assert command_line.main() == 2
    errors = capsys.readouterr().err
    assert (words[0] in errors, named in errors) == (True, True)


def started(*words: object, **pipes: object) -> subprocess.Popen[bytes]:
    """`speech transcribe` in a process of its own."""
    command = [sys.executable, "-m", "inference_service.client", "transcribe", *map(str, words)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **pipes}
    return subprocess.Popen(command, **streams)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("source", ["file", "file in real time", "silent pipe"])
def test_an_interrupt_ends_it_without_a_traceback(service: Service, recording: Path, source: str) -> None:
    service.runtime.hold = True
    words = {"file": [recording], "file in real time": [recording, "--realtime"], "silent pipe": ["-"]}[
        source
    ]
    process = started(*words, "--url", service.url, stdin=subprocess.PIPE)
    if source == "silent pipe":
        service.wait_until(lambda: service.engine.streams.open > 0)
    else:
        service.wait_until(lambda: service.runtime.running > 0)
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(20) == command_line.INTERRUPTED
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        service.runtime.hold = False
        process.kill()
        process.communicate()


def test_a_reader_that_has_gone_ends_it_without_a_traceback(service: Service, recording: Path) -> None:
    service.runtime.hold = True
    process = started(recording, "--url", service.url)
    service.wait_until(lambda: service.runtime.running > 0)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    service.runtime.hold = False
    assert process.wait(20) == command_line.BROKEN_PIPE
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.parametrize(
    ("redirection", "status", "reason"),
    [
        (">/dev/full", batch.FAILED, "the text cannot be written: No space left on device"),
        (">&-", 0, None),
        ("<&-", batch.FAILED, "standard input: is closed"),
        ("</dev/null", batch.FAILED, "standard input: is empty"),
    ],
)
def test_standard_streams_may_be_closed_full_or_empty(
    service: Service,
    recording: Path,
    redirection: str,
    status: int,
    reason: str | None,
) -> None:
    source = "-" if redirection.startswith("<") else str(recording)
    words = [sys.executable, "-m", "inference_service.client", "transcribe", source, "--url", service.url]
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh"]
    done = subprocess.run([*shell, *words], stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == status
    assert done.stderr == (f"speech: {reason}\n" if reason else "")


def test_a_key_from_a_file_has_no_line_break_and_is_never_shown(
    speech: Run,
    serve: Callable[..., Service],
    recording: Path,
) -> None:
    service = serve(SERVER__API_KEYS="secret-key")
    assert speech("transcribe", recording, "--url", service.url, "--api-key", "secret-key\n")[0] == 0
    status, _, errors = speech("transcribe", recording, "--url", service.url, "--api-key", "schlüssel")
    assert (status, "--api-key" in errors, "schlüssel" in errors) == (2, True, False)


def test_a_redirection_names_the_address_to_give(
    speech: Run,
    recording: Path,
) -> None:
    class Redirecting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(301)
            self.send_header("Location", "https://speech.example.com/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """No log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        status, _, errors = speech("transcribe", recording, "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (status, "redirects to https://speech.example.com/" in errors) == (batch.FAILED, True)


def test_the_client_loads_no_server() -> None:
    script = (
        "import sys, inference_service.client.__main__; print(*{name.split('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    servers = {"litestar", "prometheus_client", "tritonclient", "uvicorn"}
    assert not servers & set(loaded.stdout.split())
