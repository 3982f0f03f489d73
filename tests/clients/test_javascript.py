"""OpenAI's own JavaScript client, on real speech through the gateway. Skipped where node is not installed."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from infra.gateway.render import Tls
from tests.clients.conftest import LONG, RECORDING, Entrance, wrong_words

ITEM = "conversation.item.input_audio_transcription"


@pytest.fixture
def run(javascript: Path, gateway: Entrance, certificate: Tls) -> Callable[[str, Path], dict[str, Any]]:
    """`run(program, file)`: what the program prints of the file."""

    def run(program: str, file: Path) -> dict[str, Any]:
        done = subprocess.run(
            ["node", program, gateway.base_url, gateway.key, str(file)],
            cwd=javascript,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": certificate.certificate},
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


Run = Callable[[str, Path], dict[str, Any]]


def test_a_recording_in_every_format_and_as_a_stream(run: Run) -> None:
    told = run("audio.mjs", RECORDING)

    for text in (told["json"]["text"], told["text"], told["verbose_json"]["text"]):
        assert wrong_words(text) <= 0.1
    assert told["json"]["usage"] == {"type": "duration", "seconds": 11.0}
    assert told["srt"].startswith("1\n00:00:00")
    assert told["vtt"].startswith("WEBVTT")
    assert wrong_words(" ".join(word["word"] for word in told["words"]["words"])) <= 0.1
    assert told["words"]["segments"]
    *deltas, done = told["events"]
    assert "".join(event["delta"] for event in deltas) == done["text"]
    assert done["usage"]["seconds"] == 11.0
    assert told["errors"] == {
        "model": {"status": 404, "code": "model_not_found", "param": "model"},
        "include": {"status": 400, "code": "unsupported_parameter", "param": "include"},
        "known_speaker_names": {
            "status": 400, "code": "unsupported_parameter", "param": "known_speaker_names",
        },
        "translation": {"status": 400, "message": told["errors"]["translation"]["message"]},
    }  # fmt: skip
    assert "English only" in told["errors"]["translation"]["message"]
    assert {"asr", "whisper-1", "gpt-transcribe"} <= set(told["models"])
    assert told["model"] == "gpt-4o-mini-transcribe-2025-12-15"


def test_sessions_from_node_and_from_browsers(run: Run, tmp_path: Path) -> None:
    samples, rate = soundfile.read(RECORDING, dtype="float32")
    audio = np.clip(soxr.resample(samples, rate, 24000), -1, 1)
    pcm = tmp_path / "speech.pcm"
    pcm.write_bytes((audio * 32767).astype("<i2").tobytes())

    told = run("realtime.mjs", pcm)

    for client in ("node", "browser"):
        events = told[client]
        assert [event["type"] for event in events[:2]] == ["session.created", "session.updated"]
        assert events[-1]["type"] == f"{ITEM}.completed"
        assert wrong_words(events[-1]["transcript"]) <= 0.15
        deltas = [event["delta"] for event in events if event["type"] == f"{ITEM}.delta"]
        assert wrong_words("".join(deltas)) <= 0.4
