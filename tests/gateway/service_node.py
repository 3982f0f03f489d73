"""A node in a process of its own, so that a test can kill it: the real worker over a double runtime.

`python -m tests.gateway.service_node` takes its settings from the environment (SERVER__HTTP_PORT, …). Its
runtime takes DOUBLE_DELAY seconds for every answer.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from inference_service import logs, worker
from inference_service.runtimes.base import Runtime
from inference_service.settings import Settings, load
from infra.gateway.render import UpstreamServer
from tests.ports import free_port
from tests.service.conftest import DoubleRuntime

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60


@dataclass(frozen=True)
class ServiceNode:
    """A running node and the address that the gateway dials."""

    process: subprocess.Popen[bytes]
    upstream: UpstreamServer

    def open_calls(self, entrance: str) -> int:
        """The number of running requests at `entrance` (grpc, websocket)."""
        text = httpx2.get(f"http://{self.upstream.http_address}/metrics").text
        name = f'ai_requests_in_flight{{entrance="{entrance}"}} '
        return sum(int(float(line.removeprefix(name))) for line in text.splitlines() if line.startswith(name))

    def kill(self) -> None:
        """Ends it as a crash or the kernel does."""
        self.process.kill()
        self.process.wait(10)


@contextmanager
def service_nodes(count: int, folder: Path, **environment: str) -> Iterator[list[ServiceNode]]:
    """Runs `count` nodes with these settings. All of them answer when the block begins."""
    nodes: list[ServiceNode] = []
    try:
        for number in range(1, count + 1):
            server = UpstreamServer(f"gpu-{number}", "127.0.0.1", free_port(), free_port())
            own = {
                "SERVER__HOST": server.host,
                "SERVER__HTTP_PORT": str(server.http_port),
                "SERVER__GRPC_PORT": str(server.grpc_port),
                "SERVER__RUNTIME_DIR": f"{folder}/{server.name}",
                "SERVER__WORKERS": "1",
            }
            (folder / server.name).mkdir()
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.gateway.service_node"],
                cwd=ROOT,
                env={**os.environ, **own, **environment},
                stdin=subprocess.PIPE,  # the node stops when this pipe closes
                stdout=subprocess.DEVNULL,
            )
            nodes.append(ServiceNode(process, server))
        for node in nodes:
            _wait_until_it_answers(node)
        yield nodes
    finally:
        for node in nodes:
            node.process.kill()
            node.process.communicate()


def _wait_until_it_answers(node: ServiceNode) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx2.get(f"http://{node.upstream.http_address}/api/v1/ai/health").is_success:
                return
        except httpx2.TransportError:
            pass
        assert node.process.poll() is None, "the node stopped"
        assert time.monotonic() < deadline, f"the node did not answer within {START_SECONDS} s"
        time.sleep(0.05)


def main() -> None:
    """Serves until SIGTERM or the end of standard input."""
    settings, _ = load(None, dict(os.environ))
    logs.configure(settings.server.log_level)

    def double(_: Settings) -> Runtime:
        runtime = DoubleRuntime()
        runtime.delay = float(os.environ.get("DOUBLE_DELAY", "0"))
        return runtime

    worker.build_runtime = double
    listener = socket.create_server((settings.server.host, settings.server.http_port))
    _, heartbeat = os.pipe()  # this worker has no supervisor
    port = settings.server.tls.http_port
    with_tls = socket.create_server((settings.server.host, port)) if settings.server.tls.files else None
    asyncio.run(worker.serve(settings, listener, heartbeat, with_tls))


if __name__ == "__main__":
    main()
