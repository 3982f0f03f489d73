"""The examples of docs/openai.md, as they stand, against a real node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from infra.gateway.render import Tls
from tests.clients.conftest import LONG, RECORDING, Entrance, wrong_words
from tests.triton_server import ROOT

PAGE = (ROOT / "docs" / "openai.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that the examples read."""
    shutil.copy(RECORDING, tmp_path / "talk.flac")
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    audio = np.clip(soxr.resample(samples, rate, 24000), -1, 1)
    (tmp_path / "talk.pcm").write_bytes((audio * 32767).astype("<i2").tobytes())
    return tmp_path


def run(example: str, command: list[str], folder: Path, entrance: Entrance, **environment: str) -> str:
    """What an example prints. Only its address and its key are other ones."""
    address = re.search(r"https?://localhost:\d+", example)
    assert address is not None
    own = example.replace(address[0], entrance.url)
    own = re.sub(r'(api_?[kK]ey[=:] ?"|Bearer )none', rf"\g<1>{entrance.key}", own)
    assert entrance.key in own
    done = subprocess.run(
        command,
        input=own,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LONG,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_examples(node: Entrance, folder: Path) -> None:
    recording, live = [run(example, [sys.executable, "-"], folder, node) for example in examples("python")]
    text, *rest = recording.splitlines()
    assert wrong_words(text) <= 0.1
    assert re.match(r" +0\.\d\d And$", rest[0])
    assert wrong_words(rest[-1]) <= 0.1, "the deltas of the stream"
    *_, transcript = live.splitlines()
    assert wrong_words(transcript) <= 0.1


def test_the_javascript_examples(
    javascript: Path, node: Entrance, gateway: Entrance, certificate: Tls, folder: Path
) -> None:
    # Modules are looked for beside the program.
    (folder / "node_modules").symlink_to(javascript / "node_modules")
    command = ["node", "--input-type=module", "-"]
    recording, live = examples("javascript")
    assert wrong_words(run(recording, command, folder, node)) <= 0.1
    told = run(live, command, folder, gateway, NODE_EXTRA_CA_CERTS=certificate.certificate)
    *_, transcript = told.splitlines()
    assert wrong_words(transcript) <= 0.15


def test_the_curl_example(node: Entrance, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    [example] = examples("sh")
    assert run(example, ["sh"], folder, node).startswith("1\n00:00:00")
