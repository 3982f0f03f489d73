"""A real node, the service over Triton with tiny.en, and a real gateway in front of it, on loopback."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jiwer
import pytest

from infra.gateway.render import Site, Tls, UpstreamServer
from tests.bench.service import service
from tests.gateway import nginx
from tests.gateway.test_render import certificate  # noqa: F401
from tests.ports import free_port
from tests.triton_server import ROOT, triton_server

RECORDING = ROOT / "recordings" / "inaugural-1961.flac"
JAVASCRIPT = Path(__file__).parent / "javascript"

#: Seconds for a set-up or a program of another client: far above the usual.
LONG = 120


@dataclass(frozen=True)
class Entrance:
    """A node, or the gateway: its address without a path, and the API key."""

    url: str
    key: str

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"{self.url}/v1"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Entrance]:
    folder = tmp_path_factory.mktemp("clients")
    key = "key-of-the-tests"
    environment = {
        "AI__MODELS__EMOTION__ENABLED": "false",
        "AI__MODELS__SYNTHESIS__ENABLED": "false",
        "SERVER__API_KEYS": key,
    }
    with (
        triton_server(folder, models=["asr"], environment={"ASR_MODEL_PATH": "tiny.en"}) as triton,
        service(folder, triton.grpc, **environment) as (_, port),
    ):
        yield Entrance(f"http://127.0.0.1:{port}", key)


@pytest.fixture(scope="session")
def gateway(
    node: Entrance,
    certificate: Tls,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Entrance]:
    """The gateway with TLS: OpenAI's JavaScript client opens no real-time session without."""
    upstream = UpstreamServer("gpu-1", "127.0.0.1", int(node.url.rpartition(":")[2]), free_port())
    site = Site(
        (upstream,),
        http=free_port(),
        grpc=free_port(),
        tls=certificate,
        api_keys=(node.key,),
        rate_limit=None,
    )
    with nginx.running(site, tmp_path_factory.mktemp("gateway")):
        yield Entrance(f"https://localhost:{site.http}", node.key)


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the JavaScript client, in the version of the lock, and the programs that use it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed (Debian: apt install npm)")
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(JAVASCRIPT, folder, dirs_exist_ok=True)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--silent", "--fetch-retries=1"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LONG)
    if installed.returncode:
        reason = (installed.stderr or installed.stdout).strip().splitlines()[-1:]
        pytest.skip(f"npm cannot install OpenAI's client: {' '.join(reason)[:200]}")
    return folder


def wrong_words(heard: str) -> float:
    """The word error rate of a text that should be the recording's."""
    expected = RECORDING.with_suffix(".txt").read_text(encoding="utf-8")
    return jiwer.wer(_words(expected), _words(heard))


def _words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())
