"""Exported classifiers as `emotion` and `synthesis` by settings alone, in the embedded Triton.

The settings are those of docs/other-models.md.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from inference_service.audio import Audio
from inference_service.errors import NotReady
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton import TritonRuntime
from inference_service.settings import Settings
from infra.doctor import linter
from infra.embedded.declarations import node_declaration
from infra.paths import PACKAGE
from infra.stack import parse
from tests.models import onnx_models
from tests.service.small_triton import SmallTriton
from tests.triton_server import MODELS_VENV

pytestmark = pytest.mark.skipif(
    not (MODELS_VENV / "bin" / "python").exists(), reason="the models' environment is not there"
)

CALL = Call("request-1")


def page_settings() -> dict[str, Any]:
    """`ai.models` on the page, without speech recognition."""
    page = (PACKAGE / "docs" / "other-models.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- settings: classifier -->\n```yaml\n(.*?)```", page, re.S)
    assert block
    return {**yaml.safe_load(block[1])["ai"]["models"], "asr": {"enabled": False}}


def labelled(config: str, *labels: str) -> str:
    """A config.pbtxt with the parameter `labels`."""
    text = json.dumps(json.dumps(labels))
    return config + f'parameters [{{ key: "labels" value: {{ string_value: {text} }} }}]\n'


TWO = onnx_models.CONFIG.replace("dims: [ 3 ]", "dims: [ 2 ]")


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallTriton]:
    folder = tmp_path_factory.mktemp("classifiers")
    repository = folder / "models"
    emotion = labelled(onnx_models.CONFIG, "calm", "angry", "sad")
    onnx_models.write(repository, "speech-emotion", onnx_models.loudness(), emotion)
    onnx_models.write(repository, "antispoofing", onnx_models.signs(), labelled(TWO, "real", "Fake"))
    onnx_models.write(repository, "unlabelled", onnx_models.signs(), TWO)
    server = SmallTriton(folder, repository)
    server.start()
    yield server
    server.stop()


async def started(triton: SmallTriton, models: dict[str, Any]) -> TritonRuntime:
    settings = {"ai": {"runtime": {"triton": {"endpoint": triton.address}}, "models": models}}
    runtime = TritonRuntime(Settings.model_validate(settings))
    await runtime.start()
    return runtime


def audio(*parts: float, seconds: float = 1.0) -> Audio:
    """A waveform that has each of these values for so many seconds."""
    return Audio(np.repeat(np.float32(parts), int(16000 * seconds)), 16000)


async def test_a_classifier_s_emotion_is_the_softmax_of_its_logits(triton: SmallTriton) -> None:
    runtime = await started(triton, page_settings())
    try:
        assert (await runtime.readiness()).problems == []
        result = await runtime.emotion_of_audio(audio(0.1, 0.5, 0.3), CALL)
    finally:
        await runtime.close()
    powers = [exp(0.3), exp(0.5), exp(0.1)]  # of mean, maximum and minimum
    expected = {
        label: power / sum(powers) for label, power in zip(("calm", "angry", "sad"), powers, strict=True)
    }
    assert result.emotions == pytest.approx(expected, abs=1e-5)
    assert result.emotion == "angry"


@pytest.mark.parametrize(("level", "synthetic"), [(0.25, True), (-0.25, False)])
async def test_a_detector_s_logits_become_the_probability_of_its_synthetic_label(
    triton: SmallTriton, level: float, synthetic: bool
) -> None:
    runtime = await started(triton, page_settings())
    try:
        result = await runtime.detect_synthesis(audio(level), CALL)
    finally:
        await runtime.close()
    assert result.score == pytest.approx(1 / (1 + exp(-16 * level)), abs=1e-4)
    assert result.is_synthetic is synthetic


async def test_long_audio_is_classified_in_windows_and_their_scores_are_averaged(triton: SmallTriton) -> None:
    models = page_settings()
    models["synthesis"]["window_seconds"] = 2
    runtime = await started(triton, models)
    try:
        result = await runtime.detect_synthesis(audio(0.25, 0.25, -0.25, 0.0, seconds=2), CALL)
    finally:
        await runtime.close()
    high, low = 1 / (1 + exp(-4)), 1 / (1 + exp(4))
    assert result.score == pytest.approx((high + high + low + 0.5) / 4, abs=1e-4)
    assert result.duration_ms == 8000


async def test_a_failed_window_fails_the_request_with_its_reason(triton: SmallTriton) -> None:
    models = page_settings()
    models["synthesis"] |= {"window_seconds": 1, "output_names": ["scores"]}
    runtime = await started(triton, models)
    try:
        with pytest.raises(NotReady, match="output 'scores' is not there"):
            await runtime.detect_synthesis(audio(0.1, 0.2), CALL)
    finally:
        await runtime.close()


async def test_labels_that_do_not_say_what_is_synthetic_are_a_problem(
    triton: SmallTriton, tmp_path: Path
) -> None:
    models = page_settings()
    models["synthesis"]["synthetic_labels"] = ["spoof"]
    other = copy.deepcopy(models)
    other["synthesis"]["model_name"] = "unlabelled"
    for settings, problem in (
        (
            models,
            "model antispoofing: ai.models.synthesis.synthetic_labels (spoof) must name one of its labels "
            "and not all: real, Fake",
        ),
        (
            other,
            "model unlabelled: no labels; set ai.models.synthesis.labels_path, or the parameter labels in "
            "its config.pbtxt",
        ),
    ):
        runtime = await started(triton, settings)
        try:
            assert (await runtime.readiness()).problems == [problem]
        finally:
            await runtime.close()
        listing = linter.local(triton.repository)
        faults = linter.lint(listing, Settings.model_validate({"ai": {"models": settings}}).ai.models)
        assert [fault.message for fault in faults] == [problem]


def test_windows_are_of_one_length_and_leave_nothing_out() -> None:
    waveform = Audio(np.arange(100_001, dtype=np.float32), 16000)
    windows = waveform.windows(2)
    assert {window.frames for window in windows} == {25_001}
    assert np.unique(np.concatenate([window.samples for window in windows])).size == 100_001
    assert [window.frames for window in waveform.windows(7)] == [100_001]


def test_an_embedded_node_finds_the_labels_beside_the_models(tmp_path: Path) -> None:
    for name in ("speech-emotion", "antispoofing"):
        onnx_models.write(tmp_path, name, onnx_models.signs())
        (tmp_path / name / "labels.json").write_text('["real", "fake"]')
    config = {"ai": {"models": page_settings()}}
    stack = parse(
        {
            "nodes": [{"name": "dev-1", "host": "embedded"}],
            "gateway": {"mode": "embedded"},
            "models": {"source": "sync", "path": str(tmp_path)},
            "service": {"config": config},
        }
    )
    models = node_declaration(stack, stack.nodes[0]).service["ai"]["models"]
    assert models["emotion"]["labels_path"] == str(tmp_path / "speech-emotion" / "labels.json")
    assert models["synthesis"]["labels_path"] == str(tmp_path / "antispoofing" / "labels.json")
