"""ONNX models in the embedded Triton, through this project's python-based backend of NVIDIA's name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from infra.models.backends import Needs, needs_of
from tests.models import onnx_models
from tests.models.conftest import Models
from tests.triton_server import triton_server

TEXT_CONFIG = """
backend: "onnxruntime"
input [{ name: "text" data_type: TYPE_STRING dims: [ -1 ] }]
output [{ name: "answer" data_type: TYPE_STRING dims: [ -1 ] }]
"""

#: Folders with a fault each -> what Triton must say of it.
FAULTS = {
    "other-name": (
        onnx_models.CONFIG.replace('"audio_input"', '"waveform"'),
        "model other-name: input 'waveform' is not in the graph, which has audio_input (TYPE_FP32 [-1, -1]); "
        "config.pbtxt lacks the graph's input audio_input (TYPE_FP32 [-1, -1])",
    ),
    "other-width": (
        onnx_models.CONFIG.replace("dims: [ 3 ]", "dims: [ 7 ]"),
        "model other-width: output 'logits' has dims [7], and the graph has logits (TYPE_FP32 [-1, 3]), the "
        "first for the batch",
    ),
    "other-type": (
        onnx_models.CONFIG.replace("TYPE_FP32 dims: [ -1 ]", "TYPE_FP16 dims: [ -1 ]"),
        "model other-type: input 'audio_input' is TYPE_FP16, and the graph has audio_input (TYPE_FP32",
    ),
    "no-graph": (
        onnx_models.CONFIG + 'default_model_filename: "other.onnx"',
        "model no-graph: there is no other.onnx in ",
    ),
}


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    """A Triton with every model of these tests; those with a fault do not load."""
    folder = tmp_path_factory.mktemp("onnx")
    repository = folder / "models"
    onnx_models.write(repository, "loudness", onnx_models.loudness())
    onnx_models.write(repository, "triples", onnx_models.triples())
    onnx_models.write(repository, "greeting", onnx_models.greeting(), TEXT_CONFIG)
    older = onnx_models.CONFIG.replace('backend: "onnxruntime"', 'platform: "onnxruntime_onnx"')
    onnx_models.write(repository, "older", onnx_models.loudness(), older)
    onnx_models.write(repository, "broken", b"no graph")
    for name, (config, _) in FAULTS.items():
        onnx_models.write(repository, name, onnx_models.loudness(), config)
    with triton_server(folder, model_repository=repository, wait_for_models=False) as ports:
        yield Models(f"127.0.0.1:{ports.grpc}")


def waveform(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, int(16000 * seconds))).astype(np.float32)


def logits(audio: np.ndarray) -> np.ndarray:
    return np.stack([audio.mean(axis=1), audio.max(axis=1), audio.min(axis=1)], axis=1)


def reason(models: Models, name: str) -> str:
    index = models.client.get_model_repository_index().models
    return next(model.reason for model in index if model.name == name)


def test_a_classifier_of_waveforms_answers_with_its_logits(onnx: Models) -> None:
    audio = waveform(1.5)
    assert onnx.infer("loudness", audio_input=audio)["logits"] == pytest.approx(logits(audio), abs=1e-5)


def test_requests_of_one_length_are_one_run_and_others_are_runs_of_their_own(onnx: Models) -> None:
    audios = [waveform(2.0 if seed % 4 else 0.5, seed) for seed in range(64)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda audio: onnx.infer("loudness", audio_input=audio)["logits"], audios))
    for audio, answer in zip(audios, answers, strict=True):
        assert answer == pytest.approx(logits(audio), abs=1e-5)
    (statistics,) = onnx.client.get_inference_statistics("loudness").model_stats
    sizes = {batch.batch_size for batch in statistics.batch_stats if batch.compute_infer.count}
    assert max(sizes) > 1


def test_a_client_may_send_a_batch_itself(onnx: Models) -> None:
    audio = np.concatenate([waveform(1, seed) for seed in range(5)])
    assert onnx.infer("loudness", audio_input=audio)["logits"] == pytest.approx(logits(audio), abs=1e-5)


def test_strings_pass_through_a_model_without_batches(onnx: Models) -> None:
    text = np.array(["grüß dich".encode(), b""], object)
    assert onnx.infer("greeting", text=text)["answer"].tolist() == text.tolist()


def test_a_failed_run_is_an_error_of_its_request_alone(onnx: Models) -> None:
    with pytest.raises(InferenceServerException, match=r"onnxruntime: .*cannot be reshaped"):
        onnx.infer("triples", audio_input=np.zeros((1, 4), np.float32))
    assert onnx.infer("triples", audio_input=np.zeros((1, 3), np.float32))["logits"].shape == (1, 3)


def test_an_answer_without_a_row_for_each_of_the_batch_is_an_error(onnx: Models) -> None:
    with pytest.raises(InferenceServerException, match=r"'logits' has shape \[2, 3\] for a batch of 1"):
        onnx.infer("triples", audio_input=np.zeros((1, 6), np.float32))


@pytest.mark.parametrize("name", FAULTS)
def test_a_configuration_that_does_not_fit_the_graph_names_model_tensor_and_graph(
    onnx: Models, name: str
) -> None:
    assert FAULTS[name][1] in reason(onnx, name)


def test_a_file_that_is_no_graph_is_named_with_onnxruntimes_reason(onnx: Models) -> None:
    assert "model broken: onnxruntime cannot read model.onnx: " in reason(onnx, "broken")


def test_a_model_may_name_the_platform_instead_of_the_backend(onnx: Models) -> None:
    audio = waveform(0.1)
    assert onnx.infer("older", audio_input=audio)["logits"] == pytest.approx(logits(audio), abs=1e-5)


def test_a_folder_without_a_configuration_gets_that_of_its_graph(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    onnx_models.write(repository, "loudness", onnx_models.loudness(), config=None)
    onnx_models.write(repository, "complete", onnx_models.loudness())
    half = 'backend: "onnxruntime" input [{ name: "audio_input" data_type: TYPE_FP32 dims: [ -1, -1 ] }]'
    onnx_models.write(repository, "half", onnx_models.loudness(), half)
    assert needs_of(repository / "loudness") == Needs("onnxruntime", builds_engines=False, completion=True)
    with triton_server(tmp_path, model_repository=repository, completes=True) as ports:
        triton = Models(f"127.0.0.1:{ports.grpc}")
        config = triton.client.get_model_config("loudness").config
        assert config.max_batch_size == 4
        audio = np.concatenate([waveform(0.1, 1), waveform(0.1, 2)])
        for name in ("loudness", "complete", "half"):
            assert triton.infer(name, audio_input=audio)["logits"] == pytest.approx(logits(audio), abs=1e-5)
