"""`export`: an audio classifier of Transformers gives the same answers in Triton."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
import transformers
from numpy.typing import NDArray

from infra.doctor.linter.config import parse
from infra.models import export
from infra.models.cli import main
from infra.paths import RECORDING
from tests.convert import checkpoints
from tests.models.conftest import Models
from tests.triton_server import triton_server

LABELS = ["neu", "hap", "ang"]


@pytest.fixture(scope="session")
def recording() -> NDArray[np.float32]:
    samples, _ = soundfile.read(RECORDING, dtype="float32")
    return samples


def original(checkpoint: Path, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits of Transformers."""
    model: Any = transformers.AutoModelForAudioClassification.from_pretrained(checkpoint)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(checkpoint)
    with torch.no_grad():
        return model(**extractor(audio, sampling_rate=16000, return_tensors="pt")).logits[0].numpy()


def test_triton_gives_the_logits_of_transformers(tmp_path: Path, recording: NDArray[np.float32]) -> None:
    checkpoint = checkpoints.classifier(tmp_path / "moods", "Wav2Vec2", LABELS)
    models = tmp_path / "models"
    assert main(["export", str(checkpoint), "--to", str(models), "--rename", "neu=neutral"]) == 0
    folder = models / "emotion-moods"
    assert json.loads((folder / "labels.json").read_text()) == ["neutral", "hap", "ang"]
    config = parse((folder / "config.pbtxt").read_text())
    assert (config.backend, config.max_batch_size) == ("onnxruntime", 16)
    assert json.loads(config.parameters["labels"].string_value) == ["neutral", "hap", "ang"]
    assert config.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "tensorrt"
    with triton_server(tmp_path, models=["emotion-moods"], model_repository=models) as ports:
        client = Models(f"127.0.0.1:{ports.grpc}")
        for audio in (recording[:16000], recording[8000:70000] * 0.1, recording):
            logits = client.infer("emotion-moods", audio_input=audio[None])["logits"][0]
            assert np.abs(logits - original(checkpoint, audio)).max() < 1e-3
        short = client.infer("emotion-moods", audio_input=recording[None, :10])["logits"]
        assert np.isfinite(short).all()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("Hubert", {}),
        ("WavLM", {}),
        ("Wav2Vec2", {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}),
        ("Wav2Vec2", {"use_weighted_layer_sum": True}),
        ("UniSpeechSat", {}),
    ],
)
@pytest.mark.parametrize("normalised", [True, False])
def test_other_architectures_are_exported(
    kind: str, changes: dict[str, Any], normalised: bool, tmp_path: Path, recording: NDArray[np.float32]
) -> None:
    checkpoint = checkpoints.classifier(tmp_path / "some", kind, LABELS, normalised=normalised, **changes)
    assert main(["export", str(checkpoint), "--to", str(tmp_path / "models"), "--task", "emotion"]) == 0
    graph = onnxruntime.InferenceSession(str(tmp_path / "models" / "emotion-some" / "1" / "model.onnx"))
    quiet = recording[20000:60000] * 0.05 + 0.02  # not normalised by chance
    logits = graph.run(None, {"audio_input": quiet[None]})[0][0]
    assert np.abs(logits - original(checkpoint, quiet)).max() < 1e-3


def test_a_detector_of_synthetic_speech_answers_with_its_probability(
    tmp_path: Path, recording: NDArray[np.float32], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoints.classifier(tmp_path / "detector", "Wav2Vec2", ["bonafide", "spoof"])
    models = tmp_path / "models"
    assert main(["export", str(checkpoint), "--to", str(models)]) == 0
    printed = capsys.readouterr().out
    assert "ai.models.synthesis.input_type=waveform" in printed
    assert "ai.models.synthesis.window_seconds=30" in printed
    graph = onnxruntime.InferenceSession(str(models / "synthesis-detector" / "1" / "model.onnx"))
    (answer,) = graph.run(["synthesis_output"], {"audio_input": recording[None]})
    powers = np.exp(original(checkpoint, recording))
    assert answer.shape == (1, 1)
    assert abs(answer[0, 0] - powers[1] / powers.sum()) < 1e-3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "synthesis"], "which of the labels neu, hap, ang is synthetic speech?"),
        (["--task", "synthesis", "--synthetic-label", "fake"], "--synthetic-label fake: the checkpoint has"),
        (["--rename", "sad=unhappy"], "the checkpoint has no label sad; it has neu, hap, ang"),
    ],
)
def test_wrong_labels_are_named_and_leave_nothing(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoints.classifier(tmp_path / "moods", "Wav2Vec2", LABELS)
    assert main(["export", str(checkpoint), "--to", str(tmp_path / "models"), *arguments]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_graph_that_differs_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = checkpoints.classifier(tmp_path / "moods", "Wav2Vec2", LABELS)
    # Stands for an exporter that gets an operation wrong by a percent.
    forward = export._Waveforms.forward
    monkeypatch.setattr(export._Waveforms, "forward", lambda self, audio: forward(self, audio) * 1.01)
    assert main(["export", str(checkpoint), "--to", str(tmp_path / "models")]) == 1
    assert "the graph's outputs differ from the checkpoint's by" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_checkpoint_without_a_trained_head_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoints.classifier(tmp_path / "moods", "Wav2Vec2", LABELS)
    model: Any = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(folder)
    model.wav2vec2.save_pretrained(folder)  # the body alone
    assert main(["export", str(folder), "--to", str(tmp_path / "models")]) == 1
    assert "its file of weights lacks classifier" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_whisper_is_no_classifier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = checkpoints.whisper(tmp_path / "tiny")
    assert main(["export", str(folder), "--to", str(tmp_path / "models")]) == 1
    assert "made by WhisperFeatureExtractor" in capsys.readouterr().err
