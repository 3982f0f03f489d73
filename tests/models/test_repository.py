"""The model repository as Triton sees it."""

from __future__ import annotations

import json
import subprocess
import sys
from ast import literal_eval
from concurrent.futures import ThreadPoolExecutor

import pytest
from tritonclient.utils import InferenceServerException

from inference_service.model_cards import RULES, describe
from inference_service.tasks import ModelKind
from infra.embedded.triton import TritonNotInstalled, find_installation
from tests.models.conftest import Models
from tests.triton_server import MODEL_REPOSITORY, triton_server

TENSORS = {
    "asr": (
        {"audio_input": ("FP32", [-1, -1]), "language": ("BYTES", [-1, 1]), "options": ("BYTES", [-1, 1])},
        {
            "text": ("BYTES", [-1, 1]),
            "confidence": ("FP32", [-1, 1]),
            "language": ("BYTES", [-1, 1]),
            "segments": ("BYTES", [-1, 1]),
            "languages": ("BYTES", [-1, 1]),
        },
    ),
    "emotion": ({"audio_input": ("FP32", [-1])}, {"logits": ("FP32", [6])}),
    "emotion-text": ({"text": ("BYTES", [1])}, {"logits": ("FP32", [6])}),
    "synthesis": ({"audio_input": ("FP32", [80, -1])}, {"synthesis_output": ("FP32", [1])}),
    "whisper-encoder": ({"mel": ("FP32", [1, 80, 3000])}, {"encoder_output": ("FP32", [1, 1500, -1])}),
    "whisper-decoder": (
        {"tokens": ("INT64", [1, -1]), "encoder_output": ("FP32", [1, 1500, -1])},
        {"logits": ("FP32", [1, -1, -1])},
    ),
}


def test_every_folder_of_the_repository_is_a_model():
    """Triton takes each folder for a model, and is not ready while one does not load."""
    folders = {
        path.name for path in MODEL_REPOSITORY.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert folders == TENSORS.keys()


@pytest.mark.parametrize("model", TENSORS)
def test_models_have_the_tensors_that_the_architecture_names(models, model):
    described = models.client.get_model_metadata(model)
    inputs, outputs = (
        {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in tensors}
        for tensors in (described.inputs, described.outputs)
    )
    assert (inputs, outputs) == TENSORS[model]


def test_waiting_speech_is_handed_over_in_batches(models, speech):
    def batches() -> dict[int, int]:
        """How often `asr` was given so many requests at once."""
        (statistics,) = models.client.get_inference_statistics("asr").model_stats
        return {batch.batch_size: batch.compute_infer.count for batch in statistics.batch_stats}

    before = batches()
    # Twice as many as fit into a batch: while the first are decoded, others wait.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(models.asr, [speech[:16000]] * 16))
    together = {size for size, count in batches().items() if count > before.get(size, 0)}
    assert max(together) > 1


@pytest.mark.parametrize("model", ["emotion", "emotion-text"])
def test_labels_are_the_same_in_the_file_and_in_the_configuration(models, model):
    labels = json.loads((MODEL_REPOSITORY / model / "labels.json").read_text())
    assert labels == json.loads((MODEL_REPOSITORY / "emotion" / "labels.json").read_text())
    config = models.client.get_model_config(model).config
    assert json.loads(config.parameters["labels"].string_value) == labels


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("asr", ModelKind.NEURAL),
        ("whisper-encoder", ModelKind.NEURAL),
        ("whisper-decoder", ModelKind.NEURAL),
        ("emotion", ModelKind.RULE),
        ("emotion-text", ModelKind.LEXICON),
        ("synthesis", ModelKind.RULE),
    ],
)
def test_each_model_says_what_it_is_and_rules_say_what_they_cannot_do(models, model, kind):
    parameters = models.client.get_model_config(model).config.parameters
    said = describe(model, {key: value.string_value for key, value in parameters.items()})
    assert said.error is None
    assert said.kind is kind
    assert said.licence
    if kind in RULES:
        assert said.caveat
        assert said.quality
        assert said.languages


def test_the_figures_of_the_cards_are_those_that_were_measured(models):
    def figures(model: str) -> dict[str, float]:
        parameters = models.client.get_model_config(model).config.parameters
        said = describe(model, {key: value.string_value for key, value in parameters.items()})
        return {each.metric: each.value for each in said.quality}

    scores = json.loads((MODEL_REPOSITORY / "synthesis" / "training" / "scores.json").read_text())
    assert figures("synthesis") == {
        "balanced accuracy": scores["held_out_balanced_accuracy"],
        "share of synthetic speech recognised": scores["synthesis_techniques_held_out"]["festival-hts"],
    }
    script = MODEL_REPOSITORY / "emotion-text" / "evaluation" / "score.py"
    printed = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout
    assert figures("emotion-text") == {
        "accuracy over six labels": literal_eval(printed.splitlines()[-1])["accuracy"]
    }


def test_models_of_the_same_weights_find_them_the_same_way():
    """Each model's folder is copied to a node without the others, so each has a copy of the file."""
    users = ("asr", "whisper-encoder", "whisper-decoder")
    copies = {(MODEL_REPOSITORY / model / "1" / "weights.py").read_text() for model in users}
    assert len(copies) == 1


def test_weights_that_are_missing_are_named_and_other_models_serve(tmp_path):
    with triton_server(
        tmp_path,
        models=["asr", "emotion-text"],
        environment={"ASR_MODEL_PATH": "/nowhere/whisper"},
        wait_for_models=False,
    ) as ports:
        models = Models(f"127.0.0.1:{ports.grpc}")
        assert models.client.is_model_ready("emotion-text")
        assert not models.client.is_server_ready()
        (asr,) = [m for m in models.client.get_model_repository_index().models if m.name == "asr"]
        assert "no Whisper weights in /nowhere/whisper (named by ASR_MODEL_PATH): model.bin" in asr.reason


def test_a_virtual_environment_without_triton_says_how_to_make_one(tmp_path):
    with pytest.raises(TritonNotInstalled, match=r"create it with: .*models-embedded\.txt"):
        find_installation(tmp_path / "nowhere")


def test_an_inference_with_a_tensor_missing_is_refused(models):
    with pytest.raises(InferenceServerException):
        models.infer("asr")
