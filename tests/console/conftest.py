"""A console over doubles of nodes: a node is an HTTP server whose answers the test sets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from inference_service.console.settings import ConsoleSettings, WatchedNode
from tests.browser.conftest import browser, spoken  # noqa: F401

BOUNDS = ("0.05", "0.25", "0.5", "1.0", "2.5", "+Inf")


@dataclass
class NodeDouble:
    """A node: `requests` and `errors` are what it has answered so far; a closed one refuses connections."""

    requests: int = 0
    errors: int = 0
    gpu: float | None = 0.5
    health: int = 200
    message: str = ""
    silent: bool = False
    address: str = "127.0.0.1"
    port: int = 0
    keys: set[str] = field(default_factory=set)
    tls: ssl.SSLContext | None = None
    _server: ThreadingHTTPServer | None = field(default=None, repr=False)

    def open(self) -> None:
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if double.silent:
                    time.sleep(10)
                if double._server is None:  # closed, and this connection is older
                    self.close_connection = True
                    return
                double.keys.add(self.headers.get("Authorization", ""))
                code, text = double.answer(self.path)
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(BrokenPipeError):
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((self.address, self.port), Handler)
        self._server.daemon_threads = True
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str) -> tuple[int, str]:
        if path == "/metrics":
            self.requests += 4
            return 200, self.metrics()
        if path.startswith("/api/v1/ai/info"):
            cards = {"asr": {"name": "whisper-base", "version": "abc123"}}
            return 200, json.dumps({"data": {"version": "0.1.0", "model_cards": cards}})
        if path.startswith("/api/v1/ai/log"):
            return 200, json.dumps({"data": {"lines": ["first line", "second <b>line</b>"]}})
        return self.health, json.dumps({"message": self.message})

    def metrics(self) -> str:
        asr = 'route="/api/v1/ai/asr"'
        lines = [
            f'ai_requests_total{{{asr},status="200"}} {self.requests}',
            f'ai_requests_total{{{asr},status="503"}} {self.errors}',
            f'ai_requests_total{{route="/health",status="200"}} {self.requests * 9}',
            f'ai_audio_seconds_total{{task="asr"}} {self.requests * 6}',
            "ai_inferences_running 2",
            "ai_inferences_queued 1",
            "ai_streams_open 3",
            *(f'ai_request_seconds_bucket{{le="{bound}",{asr}}} {self.requests}' for bound in BOUNDS[1:]),
            f'ai_request_seconds_bucket{{le="0.05",{asr}}} 0',
        ]
        if self.gpu is not None:
            lines.append(f'nv_gpu_utilization{{gpu_uuid="a"}} {self.gpu}')
            lines.append('nv_gpu_memory_used_bytes{gpu_uuid="a"} 8e9')
            lines.append('nv_gpu_memory_total_bytes{gpu_uuid="a"} 1.6e10')
        return "\n".join(lines) + "\n"


@dataclass
class RunningConsole:
    """A console process on a Unix socket, and a TCP port that stands in for the gateway's nginx."""

    nodes: dict[str, NodeDouble]
    settings: ConsoleSettings
    file: Path
    url: str
    process: subprocess.Popen[bytes]
    log_socket: str

    def get(self, path: str, **headers: str) -> httpx2.Response:
        with httpx2.Client(trust_env=False, timeout=10) as client:
            return client.get(f"{self.url}{path}", headers=headers)

    def fleet(self, **headers: str) -> dict[str, Any]:
        answer = self.get("/console/api/fleet", **headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait(self, what: Callable[[dict[str, Any]], bool], seconds: float = 30) -> float:
        """Waits until the fleet is so; returns the seconds that it took."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            if what(self.fleet()):
                return time.monotonic() - begin
            time.sleep(0.1)
        raise AssertionError(f"the fleet did not become so: {json.dumps(self.fleet())[:2000]}")


Start = Callable[..., RunningConsole]


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Start]:
    """Starts consoles, and ends them after the test."""
    running: list[RunningConsole] = []

    def start(
        count: int,
        *,
        keys: tuple[str, ...] = (),
        states: tuple[str, ...] = (),
        tls: ssl.SSLContext | None = None,
        watched: tuple[WatchedNode, ...] = (),
        command: tuple[str, ...] = (sys.executable,),
        **environment: str,
    ) -> RunningConsole:
        nodes = {f"gpu-{number + 1}": NodeDouble(tls=tls) for number in range(count)}
        for node in nodes.values():
            node.open()
        gateway = NodeDouble()
        gateway.open()
        watched += tuple(
            WatchedNode(
                name=name,
                url=f"{'https' if tls else 'http'}://127.0.0.1:{node.port}",
                host=f"192.0.2.{number + 10}",
                state=states[number] if number < len(states) else "serving",
            )
            for number, (name, node) in enumerate(nodes.items())
        )
        folder = tmp_path / str(len(running))
        folder.mkdir()
        settings = ConsoleSettings(
            stack="prod",
            nodes=watched,
            gateway="http://ai.example.com:8080",
            probe=f"http://127.0.0.1:{gateway.port}",
            socket=str(folder / "c.sock"),
            log_socket=str(folder / "l.sock"),
            api_keys=keys,
        )
        (folder / "settings.json").write_bytes(msgspec.json.encode(settings))
        process = subprocess.Popen(
            [*command, "-m", "inference_service.console", str(folder / "settings.json")],
            env=os.environ | environment,
        )
        url = _forward(settings.socket)
        running.append(
            RunningConsole(nodes, settings, folder / "settings.json", url, process, str(settings.log_socket))
        )
        _await_socket(settings.socket)
        return running[-1]

    yield start
    for each in running:
        each.process.terminate()
        for node in each.nodes.values():
            node.close()
    for each in running:
        assert each.process.wait(20) in (0, -15)


def _await_socket(path: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
                return
            except OSError:
                time.sleep(0.05)
    raise AssertionError("the console does not listen")


def _forward(path: str) -> str:
    """A loopback port whose connections go to a Unix socket, as the gateway's do."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while True:
            client, _ = listener.accept()
            upstream = socket.socket(socket.AF_UNIX)
            try:
                upstream.connect(path)
            except OSError:
                client.close()
                continue
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"
