"""The inference service as a process, for the benchmarks."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.ports import free_ports
from tests.triton_server import ROOT


@contextmanager
def service(folder: Path, triton_grpc: int, **environment: str) -> Iterator[tuple[psutil.Process, int]]:
    """Run the inference service on Triton. Yields its process and its HTTP port when it is ready."""
    endpoint = {"AI__RUNTIME__TRITON__ENDPOINT": f"127.0.0.1:{triton_grpc}"}
    with process_of_service(folder, "/api/v1/ai/health", **endpoint, **environment) as running:
        yield running


@contextmanager
def process_of_service(
    folder: Path, healthy: str = "/health", **environment: str
) -> Iterator[tuple[psutil.Process, int]]:
    """Run the inference service. Yields its process and its HTTP port when its path `healthy` answers 200."""
    http, grpc = free_ports(2)
    log = folder / f"service-{http}.log"
    settings = {
        "SERVER__HOST": "127.0.0.1",
        "SERVER__HTTP_PORT": str(http),
        "SERVER__GRPC_PORT": str(grpc),
        "SERVER__RUNTIME_DIR": str(folder / f"run-{http}"),
        **environment,
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "inference_service"],
            env={**os.environ, **settings},
            stdout=output,
            stderr=output,
            cwd=ROOT,
        )
    try:
        deadline = time.monotonic() + 30
        while not ready(f"http://127.0.0.1:{http}{healthy}"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not become ready:\n{log.read_text()[-4000:]}")
            time.sleep(0.2)
        yield psutil.Process(process.pid), http
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ready(url: str) -> bool:
    """Whether `url` answers with status 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
