"""What the console costs: `python -m tests.bench.console [NODES …]` prints its processor time and memory.

Each node is a double whose pages are as long as those of a busy node; one in ten does not answer.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import psutil

from inference_service.console.settings import ConsoleSettings, WatchedNode

_SECONDS = 30
_BOUNDS = (
    "0.001",
    "0.0025",
    "0.005",
    "0.01",
    "0.025",
    "0.05",
    "0.1",
    "0.25",
    "0.5",
    "1.0",
    "2.5",
    "5.0",
    "10.0",
)
_ROUTES = [f"/api/v1/ai/{name}" for name in ("asr", "emotion", "synthesis", "analyze", "batch", "health")]


def page() -> str:
    """A page of metrics with about 450 lines."""
    lines = []
    for entrance in ("http", "grpc", "websocket"):
        for route in _ROUTES:
            labels = f'entrance="{entrance}",route="{route}"'
            lines += [
                f'ai_requests_total{{{labels},status="{status}"}} 9000.0' for status in (200, 400, 429, 503)
            ]
            lines += [
                f'ai_request_seconds_bucket{{le="{bound}",{labels}}} 9000.0' for bound in (*_BOUNDS, "+Inf")
            ]
            lines += [f"ai_request_seconds_{end}{{{labels}}} 9000.0" for end in ("sum", "count", "created")]
    lines += ["ai_inferences_running 3.0", "ai_inferences_queued 1.0", "ai_streams_open 4.0"]
    return "\n".join([*lines, *(f"python_gc_{number} 3.0" for number in range(60))]) + "\n"


async def _serve(listeners: list[socket.socket]) -> None:
    info = json.dumps(
        {"data": {"version": "0.1.0", "model_cards": {"asr": {"name": "whisper", "version": "a"}}}}
    )
    answers = {b"/metrics": page(), b"/api/v1/ai/info": info}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1]
                body = answers.get(path, '{"message": ""}').encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    servers = [await asyncio.start_server(answer, sock=each) for each in listeners]
    await asyncio.gather(*(each.serve_forever() for each in servers))


def look(path: str) -> None:
    """Asks for the fleet, as a page that somebody looks at does every two seconds."""
    with socket.socket(socket.AF_UNIX) as page:
        page.connect(path)
        page.sendall(b"GET /console/api/fleet HTTP/1.0\r\n\r\n")
        while page.recv(1 << 16):
            pass


def measure(count: int, watched: bool) -> tuple[float, float]:
    """The console's share of a core, and its memory in MB, with so many nodes."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in listeners]
    # These accept connections, as their system does, and never answer.
    silent = max(count // 10, 1)
    if (serving := os.fork()) == 0:
        asyncio.run(_serve(listeners[silent:]))
        os._exit(0)
    nodes = tuple(
        WatchedNode(f"gpu-{number}", f"http://127.0.0.1:{port}") for number, port in enumerate(ports)
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.json"
        probe = f"http://127.0.0.1:{ports[-1]}"
        file.write_bytes(
            msgspec.json.encode(ConsoleSettings("bench", nodes, probe, probe, f"{folder}/c.sock"))
        )
        console = subprocess.Popen([sys.executable, "-m", "inference_service.console", str(file)])
        try:
            process = psutil.Process(console.pid)
            time.sleep(10)
            before, begun = sum(process.cpu_times()[:2]), time.monotonic()
            while time.monotonic() - begun < _SECONDS:
                time.sleep(2)
                if watched:
                    look(f"{folder}/c.sock")
            share = (sum(process.cpu_times()[:2]) - before) / (time.monotonic() - begun)
            return share, process.memory_info().rss / 1e6
        finally:
            console.terminate()
            console.wait(20)
            os.kill(serving, 9)
            os.waitpid(serving, 0)


def main() -> None:
    for count in map(int, sys.argv[1:] or ("10", "50")):
        for watched in (False, True):
            share, memory = measure(count, watched)
            told = f"{share:.2%} of a core ({share / count * 10:.2%} for ten), {memory:.0f} MB"
            print(f"{count} nodes, {'somebody looks' if watched else 'nobody looks'}: {told}", flush=True)


if __name__ == "__main__":
    main()
