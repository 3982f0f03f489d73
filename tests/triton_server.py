"""A real Triton server on the models of this repository, on free loopback ports."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.triton import find_installation, install_backends, server_process
from infra.triton_arguments import TritonPorts
from tests.ports import free_ports

ROOT = Path(__file__).parent.parent
MODEL_REPOSITORY = ROOT / "model_repository"
MODELS_VENV = Path(os.environ.get("MODELS_VENV", ROOT / ".venv-models"))


@contextmanager
def triton_server(
    folder: Path,
    *,
    models: Sequence[str] | None = None,
    model_repository: Path = MODEL_REPOSITORY,
    environment: dict[str, str] | None = None,
    wait_for_models: bool = True,
    completes: bool = False,
) -> Iterator[TritonPorts]:
    """Runs Triton with its files and its log (`triton.log`) in `folder`. Yields its ports when it is ready.

    With `wait_for_models` false the server only has to be live, whether or not the models load. If it
    `completes` configurations, config.pbtxt may be missing.
    """
    installation = find_installation(MODELS_VENV)
    ports = TritonPorts(*free_ports(3))
    prefix = shared_memory_prefix()
    process = server_process(
        installation,
        shared_memory_prefix=prefix,
        backends=install_backends(installation, folder / "backends"),
        model_repository=model_repository,
        ports=ports,
        models=models,
        completes=completes,
        # Triton with a model that failed to load does not end before this; no request here takes that long.
        extra_args=["--exit-timeout-secs=5"],
        extra_environment=environment,
    )
    log = folder / "triton.log"
    with log.open("w") as errors:
        server = subprocess.Popen(process.command, env=process.environment, stdout=errors, stderr=errors)
    try:
        _wait(
            server, f"http://127.0.0.1:{ports.http}/v2/health/{'ready' if wait_for_models else 'live'}", log
        )
        yield ports
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        remove_shared_memory(prefix)


def shared_memory_prefix() -> str:
    """A new beginning for the names of one server's files in /dev/shm."""
    return f"test-triton-{uuid.uuid4().hex[:12]}-"


def remove_shared_memory(prefix: str) -> None:
    """Remove what a server that ended left in /dev/shm."""
    for file in Path("/dev/shm").glob(f"{prefix}*"):
        file.unlink(missing_ok=True)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise RuntimeError(f"Triton did not become ready:\n{log.read_text()[-4000:]}")
