"""What a model's folder needs of its Triton, read from config.pbtxt and the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.models.backends import Needs, needs, needs_of
from infra.paths import PACKAGE

pytestmark = pytest.mark.fast

TENSORS = 'input [{ name: "audio" }] output { name: "logits" }'


@pytest.mark.parametrize(
    ("config", "files", "backend"),
    [
        ('backend: "python"', [], "python"),
        ('backend: "tensorrtllm"', [], "tensorrtllm"),
        ('platform: "tensorrt_plan"', [], "tensorrt"),
        ('platform: "pytorch_libtorch"', [], "pytorch"),
        ('platform: "onnxruntime_onnx"', [], "onnxruntime"),
        ('platform: "ensemble"', [], None),
        ('# backend: "python"', ["model.onnx"], "onnxruntime"),
        ("", ["model.plan"], "tensorrt"),
        ("", ["model.pt"], "pytorch"),
        ("", ["notes.txt"], None),
    ],
)
def test_the_backend_is_the_named_one_else_that_of_the_file(
    config: str, files: list[str], backend: str | None
) -> None:
    assert needs(config, files).backend == backend


def test_a_configuration_without_tensors_needs_completion() -> None:
    assert not needs(f'backend: "onnxruntime" {TENSORS}', []).completion
    assert needs('backend: "onnxruntime" input { name: "audio" }', []).completion
    assert needs("", ["model.onnx"]).completion


def test_engines_are_built_for_the_accelerator_of_a_gpu_only() -> None:
    accelerator = '{ execution_accelerators { %s: [ { name : "tensorrt" } ] } }'
    for kind, built in (("gpu_execution_accelerator", True), ("cpu_execution_accelerator", False)):
        assert needs(f"optimization {accelerator % kind}", []).builds_engines is built
    assert not needs('parameters { key: "name" value: { string_value: "tensorrt" } }', []).builds_engines


def test_the_models_of_this_project_need_the_python_backend() -> None:
    for config in (PACKAGE / "model_repository").glob("*/config.pbtxt"):
        assert needs_of(config.parent) == Needs("python", builds_engines=False, completion=False)


def test_a_folder_that_is_not_there_needs_nothing(tmp_path: Path) -> None:
    assert needs_of(tmp_path / "nothing").backend is None
