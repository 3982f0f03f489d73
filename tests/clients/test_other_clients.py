"""LiteLLM and LangChain, in an environment of their own: `make test-clients` sets it up."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import LONG, RECORDING, Entrance, wrong_words
from tests.triton_server import ROOT

PYTHON = ROOT / ".venv-clients" / "bin" / "python"
PROGRAMS = Path(__file__).parent / "others"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="LiteLLM and LangChain are not installed: make test-clients"
)


def run(program: str, node: Entrance) -> Any:
    """What the program prints of the recording."""
    command = [PYTHON, PROGRAMS / program, node.base_url, node.key, RECORDING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_litellm(node: Entrance) -> None:
    told = run("through_litellm.py", node)
    for format in ("json", "text", "verbose_json"):
        assert wrong_words(told[format]["text"]) <= 0.1
    assert told["json"]["usage"] == {"type": "duration", "seconds": 11.0}
    assert told["srt"]["text"].startswith("1\n00:00:00")
    assert told["vtt"]["text"].startswith("WEBVTT")
    assert wrong_words(" ".join(word["word"] for word in told["words"]["words"])) <= 0.1
    assert "'whisper-9' is unknown" in told["refusal"]


def test_langchain(node: Entrance) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("LangChain's parser needs ffmpeg (Debian: apt install ffmpeg)")
    [text] = run("through_langchain.py", node)
    assert wrong_words(text) <= 0.1
