"""`convert`: a Whisper checkpoint of Transformers is served by the code of `asr`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from infra.doctor.linter.config import parse
from infra.models.cli import main
from tests.convert import checkpoints
from tests.models.conftest import Models
from tests.models_command.mirror import mirror
from tests.triton_server import triton_server


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.whisper(tmp_path_factory.mktemp("checkpoint") / "tiny-whisper")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_converted_whisper_is_served_by_triton(checkpoint: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    assert main(["convert", str(checkpoint), "--to", str(models)]) == 0
    config = parse((models / "asr-tiny-whisper" / "config.pbtxt").read_text())
    card = json.loads(config.parameters["model_card"].string_value)
    assert len(card["languages"]) == 99
    with triton_server(tmp_path, models=["asr-tiny-whisper"], model_repository=models) as ports:
        client = Models(f"127.0.0.1:{ports.grpc}")
        noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
        answer = client.infer(
            "asr-tiny-whisper", audio_input=noise[None], language=np.array([[b"fr"]], object)
        )
    # Random weights say nothing; that they say it in the language asked for shows that they were used.
    assert answer["language"][0, 0] == b"fr"


def test_a_checkpoint_of_the_hub_is_converted(checkpoint: Path, tmp_path: Path, cache: Path) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    files["pytorch_model.bin"] = b"the same weights in the older format"
    with mirror({"somebody/tiny": files}) as hub:
        arguments = ["--to", str(tmp_path / "models"), "--mirror", hub.url, "--quantization", "int8"]
        assert main(["convert", "somebody/tiny@main", *arguments]) == 0
    assert main(["check", str(tmp_path / "models")]) == 0
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_checkpoint_without_a_fast_tokenizer_or_languages_is_converted(
    checkpoint: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    older.mkdir()
    for path in checkpoint.iterdir():
        if path.name != "generation_config.json":
            (older / path.name).write_bytes(path.read_bytes())
    assert main(["convert", str(older), "--to", str(tmp_path / "models")]) == 0
    weights = tmp_path / "models" / "asr-older" / "weights"
    assert len(json.loads((weights / "config.json").read_text())["lang_ids"]) == 99


def test_another_checkpoint_is_refused_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = checkpoints.classifier(tmp_path / "other", "Wav2Vec2", ["a", "b"])
    assert main(["convert", str(other), "--to", str(tmp_path / "models")]) == 1
    assert "is a wav2vec2, and only whisper can be converted" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_damaged_weights_leave_nothing(checkpoint: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for path in checkpoint.iterdir():
        content = path.read_bytes()
        (damaged / path.name).write_bytes(content[:1000] if path.suffix == ".safetensors" else content)
    assert main(["convert", str(damaged), "--to", str(tmp_path / "models")]) == 1
    assert not (tmp_path / "models").exists()
