"""The findings of the linter about a model repository; the same for a folder on a host and here."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inference_service.settings import ModelsSettings
from infra.doctor import linter
from infra.doctor.cli import main
from infra.doctor.linter import Fault
from infra.doctor.linter.files import parse, script

pytestmark = pytest.mark.fast

REPOSITORY = Path(__file__).parents[2] / "model_repository"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of this project's models, for faults."""
    copy = tmp_path / "models"
    shutil.copytree(REPOSITORY, copy, ignore=shutil.ignore_patterns("__pycache__", "training", "evaluation"))
    return copy


def faults(repository: Path, expected: ModelsSettings | None = None) -> list[Fault]:
    return linter.lint(linter.local(repository), expected or ModelsSettings())


def only(repository: Path, expected: ModelsSettings | None = None) -> Fault:
    all_faults = faults(repository, expected)
    assert len(all_faults) == 1, [str(fault) for fault in all_faults]
    return all_faults[0]


def edit(repository: Path, model: str, old: str, new: str) -> int:
    """Replaces a text in a model's config.pbtxt. Returns the number of its line."""
    path = repository / model / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1


def test_the_models_of_this_project_have_no_fault(repository: Path) -> None:
    assert faults(repository) == []


def test_a_missing_configuration_is_named(repository: Path) -> None:
    (repository / "emotion" / "config.pbtxt").unlink()
    fault = only(repository)
    assert (fault.model, fault.path, fault.line) == ("emotion", "emotion/config.pbtxt", None)
    assert "there is no config.pbtxt" in fault.message
    assert "write emotion/config.pbtxt" in fault.remedy


def test_a_malformed_configuration_is_named_by_its_line_in_protobufs_words(repository: Path) -> None:
    line = edit(repository, "asr", "input [", "inputs [")
    fault = only(repository)
    assert str(fault).startswith(f"asr/config.pbtxt:{line}: model asr: config.pbtxt is malformed: ")
    assert 'has no field named "inputs"' in fault.message
    assert "did you mean input?" in fault.message


def test_an_unknown_datatype_is_named_by_its_line(repository: Path) -> None:
    line = edit(repository, "synthesis", "TYPE_FP32", "TYPE_FLOAT")
    fault = only(repository)
    assert fault.line == line
    assert "TYPE_FLOAT" in fault.message


def test_a_configuration_that_ends_too_early_is_malformed(repository: Path) -> None:
    path = repository / "emotion" / "config.pbtxt"
    path.write_text(path.read_text().split("output")[0] + 'output [{ name: "logits"')
    assert "malformed" in only(repository).message


def test_a_configuration_that_is_no_text_is_reported_as_such(repository: Path) -> None:
    (repository / "emotion" / "config.pbtxt").write_bytes(b"name: \xff\xfe")
    assert "is not UTF-8 text" in only(repository).message


def test_a_name_that_is_not_the_folders_is_named_by_its_line(repository: Path) -> None:
    line = edit(repository, "emotion", 'name: "emotion"', 'name: "emotions"')
    fault = only(repository)
    assert fault.line == line
    assert "names it 'emotions', and its folder is 'emotion'" in fault.message


def test_a_model_without_a_version_folder_is_named(repository: Path) -> None:
    (repository / "synthesis" / "1").rename(repository / "synthesis" / "01")
    fault = only(repository)
    assert "there is no version folder (01 is not one: versions begin at 1" in fault.message
    assert "synthesis/1/" in fault.remedy


def test_a_version_policy_for_a_version_that_is_missing_is_named(repository: Path) -> None:
    edit(
        repository,
        "emotion",
        "max_batch_size: 0",
        "max_batch_size: 0 version_policy { specific { versions: 3 } }",
    )
    assert "version_policy requires version 3; the folder has 1" in only(repository).message


def test_a_missing_backend_file_is_named_with_the_existing_ones(repository: Path) -> None:
    (repository / "synthesis" / "1" / "model.py").rename(repository / "synthesis" / "1" / "mode.py")
    fault = only(repository)
    assert fault.path == "synthesis/1/model.py"
    assert "has no model.py, which python reads; it has features.py, mode.py, weights.json" in fault.message


def test_an_empty_backend_file_is_named(repository: Path) -> None:
    (repository / "asr" / "1" / "model.py").write_text("")
    assert "model.py of version 1 is empty" in only(repository).message


@pytest.mark.parametrize(
    ("configuration", "file"),
    [
        ('platform: "onnxruntime_onnx"', "model.onnx"),
        ('backend: "onnxruntime"', "model.onnx"),
        ('platform: "tensorrt_plan"', "model.plan"),
        ('platform: "pytorch_libtorch"', "model.pt"),
        ('platform: "tensorflow_savedmodel"', "model.savedmodel"),
        ('backend: "onnxruntime" default_model_filename: "other.onnx"', "other.onnx"),
    ],
)
def test_each_backend_has_its_own_file(tmp_path: Path, configuration: str, file: str) -> None:
    model = tmp_path / "any"
    (model / "1").mkdir(parents=True)
    tensor = '[{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }]'
    (model / "config.pbtxt").write_text(f"{configuration}\ninput {tensor}\noutput {tensor}\n")
    all_faults = linter.lint(linter.local(tmp_path), None)
    assert [fault.path for fault in all_faults] == [f"any/1/{file}"]
    (model / "1" / file).write_text("a model")
    assert linter.lint(linter.local(tmp_path), None) == []


@pytest.mark.parametrize(
    ("file", "configuration"),
    [
        ("model.onnx", None),
        ("model.plan", None),
        ("model.onnx", 'backend: "onnxruntime"'),
        ("model.plan", 'platform: "tensorrt_plan"'),
    ],
)
def test_a_model_that_describes_itself_may_leave_out_its_tensors(
    tmp_path: Path, file: str, configuration: str | None
) -> None:
    (tmp_path / "asr" / "1").mkdir(parents=True)
    (tmp_path / "asr" / "1" / file).write_text("a model")
    if configuration is not None:
        (tmp_path / "asr" / "config.pbtxt").write_text(configuration)
    expected = ModelsSettings.model_validate({"emotion": {"enabled": False}, "synthesis": {"enabled": False}})
    assert faults(tmp_path, expected) == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_counted_as_editors_do_wherever_the_file_was_written(tmp_path: Path, end: str) -> None:
    (tmp_path / "any" / "1").mkdir(parents=True)
    (tmp_path / "any" / "1" / "model.py").write_text("a model")
    lines = [
        '# name: "other"',
        "input [",
        "  {",
        '    name: "x" # {',
        "    data_type: TYPE_FP32 dims: [ -1 ]",
        '  }, { name: "x" data_type: TYPE_FP32 dims: [ 0 ] }',
        "]",
        'output { name: "x" data_type: TYPE_FP32 }',
        'name: "other"',
        'backend: "python"',
    ]
    (tmp_path / "any" / "config.pbtxt").write_bytes(end.join(lines).encode())
    all_faults = linter.lint(linter.local(tmp_path), None)
    assert [(fault.line, fault.message.removeprefix("model any: ")) for fault in all_faults] == [
        (6, "input 'x' is declared twice"),
        (6, "input 'x' has dims [0]"),
        (8, "output 'x' has no dims"),
        (9, "config.pbtxt names it 'other', and its folder is 'any'"),
    ]
    done = subprocess.run(["sh", "-c", script(str(tmp_path))], capture_output=True, check=True)
    assert linter.lint(parse(done.stdout.decode()), None) == all_faults


def test_a_byte_order_mark_is_named(repository: Path) -> None:
    path = repository / "emotion" / "config.pbtxt"
    path.write_text("\ufeff" + path.read_text())
    fault = only(repository)
    assert fault.line == 1
    assert "begins with a byte order mark" in fault.message


@pytest.mark.parametrize(
    ("there", "message"),
    [("Config.pbtxt", "did you mean Config.pbtxt?"), ("inner/config.pbtxt", "the repository itself?")],
)
def test_a_configuration_elsewhere_is_named(repository: Path, there: str, message: str) -> None:
    path = repository / "emotion" / there
    path.parent.mkdir(exist_ok=True)
    (repository / "emotion" / "config.pbtxt").rename(path)
    assert message in only(repository).message


def test_an_ensemble_needs_steps(tmp_path: Path) -> None:
    (tmp_path / "both" / "1").mkdir(parents=True)
    tensor = '[{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }]'
    (tmp_path / "both" / "config.pbtxt").write_text(
        f'platform: "ensemble"\ninput {tensor}\noutput {tensor}\n'
    )
    (fault,) = linter.lint(linter.local(tmp_path), None)
    assert "the ensemble has no step" in fault.message


def test_an_ensemble_needs_the_models_of_its_steps(tmp_path: Path) -> None:
    (tmp_path / "both" / "1").mkdir(parents=True)
    tensor = '[{ name: "x" data_type: TYPE_FP32 dims: [ -1 ] }]'
    (tmp_path / "both" / "config.pbtxt").write_text(
        f'platform: "ensemble"\ninput {tensor}\noutput {tensor}\n'
        'ensemble_scheduling { step [{ model_name: "first" model_version: -1 }] }\n'
    )
    (fault,) = linter.lint(linter.local(tmp_path), None)
    assert "the ensemble's step first is not in the model repository" in fault.message


def test_a_renamed_input_is_reported_in_the_services_own_message(repository: Path) -> None:
    line = edit(repository, "emotion", '"audio_input"', '"audio"')
    all_faults = faults(repository)
    assert [fault.message for fault in all_faults] == [
        "model emotion: input 'audio_input' is not there; Triton has audio (FP32 [-1])",
        "model emotion: needs the input audio (FP32 [-1]), which the service does not send",
    ]
    assert all_faults[1].line == line
    assert "ai.models.emotion.input_name" in all_faults[0].remedy


def test_a_wrong_datatype_is_reported_in_the_services_own_message(repository: Path) -> None:
    line = edit(repository, "emotion", "TYPE_FP32", "TYPE_INT16")
    fault = only(repository)
    assert fault.message == "model emotion: input 'audio_input' has datatype INT16, expected FP32"
    assert fault.line == line


@pytest.mark.parametrize(
    ("line", "backend"),
    [
        ('platform: "tensorrt_plan"', "tensorrt"),
        ('backend: "tensorrt"', "tensorrt"),
        ('platform: "pytorch_libtorch"', "pytorch"),
        ('backend: "tensorrtllm"', "tensorrtllm"),
    ],
)
def test_a_backend_that_the_node_lacks_is_named_where_the_service_uses_the_model(
    repository: Path, line: str, backend: str
) -> None:
    edit(repository, "emotion", 'backend: "python"', line)
    edit(repository, "emotion", "KIND_CPU", "KIND_AUTO")
    for file in ("model.plan", "model.pt"):
        (repository / "emotion" / "1" / file).write_text("weights")
    listing = linter.local(repository)
    assert linter.lint(listing, ModelsSettings()) == []
    (fault,) = linter.lint(listing, ModelsSettings(), ["python", "onnxruntime"])
    assert str(fault) == (
        f"emotion/config.pbtxt:2: model emotion: needs Triton's backend {backend}; the node's Triton has "
        "python and onnxruntime only"
    )
    other = ModelsSettings.model_validate({"emotion": {"enabled": False}})
    assert linter.lint(listing, other, ["python", "onnxruntime"]) == []


def test_a_tensorrt_plan_on_the_cpu_is_a_fault(repository: Path) -> None:
    edit(repository, "emotion", 'backend: "python"', 'platform: "tensorrt_plan"')
    (repository / "emotion" / "1" / "model.plan").write_text("engine")
    assert only(repository).message == (
        "model emotion: a TensorRT plan runs on GPUs only, and instance_group has KIND_CPU"
    )


def test_a_model_without_a_backend_is_named(repository: Path) -> None:
    edit(repository, "emotion", 'backend: "python"', "")
    fault = next(each for each in faults(repository) if "neither backend" in each.message)
    assert fault.message == "model emotion: neither backend nor platform is set"
    assert "set backend in emotion/config.pbtxt" in fault.remedy


def test_a_decoupled_model_is_named(repository: Path) -> None:
    path = repository / "emotion" / "config.pbtxt"
    path.write_text(f"{path.read_text()}\nmodel_transaction_policy {{ decoupled: true }}\n")
    assert "model emotion: is decoupled (model_transaction_policy)" in only(repository).message


def test_a_wrong_shape_is_reported_in_the_services_own_message(repository: Path) -> None:
    edit(repository, "synthesis", "dims: [ 80, -1 ]", "dims: [ 64, -1 ]")
    assert only(repository).message == (
        "model synthesis: input 'audio_input' has shape [64, -1], expected [80, -1] or [128, -1]"
    )


def test_a_batched_models_shape_is_reported_as_triton_has_it(repository: Path) -> None:
    edit(repository, "emotion", "max_batch_size: 0", "max_batch_size: 4")
    edit(repository, "emotion", "dims: [ -1 ]", "dims: [ 1, -1 ]")
    assert only(repository).message == (
        "model emotion: input 'audio_input' has shape [-1, 1, -1], expected [-1]"
    )


def test_a_label_too_few_is_reported_in_the_services_own_message(repository: Path) -> None:
    edit(repository, "emotion", "dims: [ 6 ]", "dims: [ 7 ]")
    assert only(repository).message == "model emotion: 6 labels for 7 logits in 'logits'"


def test_a_card_that_cannot_be_read_is_a_fault_at_its_line(repository: Path) -> None:
    key = edit(repository, "synthesis", 'key: "model_card"', 'key: "model_card"')
    edit(repository, "synthesis", '"kind": "rule"', '"kind": "clever"')
    fault = only(repository)
    assert fault.message == (
        "model synthesis: parameter model_card: Invalid enum value 'clever' - at `$.kind`"
    )
    assert fault.line == key


def test_a_model_that_the_service_uses_and_that_is_missing_is_named_with_the_likeliest(
    repository: Path,
) -> None:
    (repository / "emotion").rename(repository / "emotions")
    edit(repository, "emotions", 'name: "emotion"', 'name: "emotions"')
    fault = only(repository)
    assert fault.message == (
        "model emotion is not ready: it is not in the model repository; did you mean emotions?"
    )


def test_a_model_of_another_name_is_what_the_services_settings_say(repository: Path) -> None:
    (repository / "emotion").rename(repository / "mood")
    edit(repository, "mood", 'name: "emotion"', 'name: "mood"')
    settings = ModelsSettings.model_validate({"emotion": {"model_name": "mood"}})
    assert faults(repository, settings) == []


def test_a_folder_on_a_host_is_read_as_one_here_is(repository: Path) -> None:
    (repository / "asr" / "config.pbtxt").unlink()
    (repository / "emotion" / "1" / "model.py").write_text("")
    edit(repository, "synthesis", "TYPE_FP32", "TYPE_FLOAT")
    done = subprocess.run(["sh", "-c", script(str(repository))], capture_output=True, text=True, check=True)
    there = linter.lint(parse(done.stdout), ModelsSettings())
    assert there == faults(repository)
    assert len(there) == 3


def test_a_link_to_a_version_elsewhere_is_followed(repository: Path, tmp_path: Path) -> None:
    (repository / "asr").rename(tmp_path / "store")
    (repository / "asr").symlink_to(tmp_path / "store")
    done = subprocess.run(["sh", "-c", script(str(repository))], capture_output=True, text=True, check=True)
    assert faults(repository) == []
    assert linter.lint(parse(done.stdout), ModelsSettings()) == []


# The command -------------------------------------------------------------------------------------------


def test_the_command_says_where_the_fault_is_and_what_to_do(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = edit(repository, "emotion", 'name: "emotion"', 'name: "emotions"')
    assert main(["models", str(repository)]) == 1
    printed = capsys.readouterr().out
    assert f"{repository}/emotion/config.pbtxt:{line}: model emotion: " in printed
    assert '→ set name: "emotion", or rename the folder' in printed


def test_the_command_gives_json(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", str(repository), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_command_takes_the_services_own_file(repository: Path, tmp_path: Path) -> None:
    settings = tmp_path / "ai-inference-service.yaml"
    settings.write_text("ai: {models: {emotion: {input_name: waveform}}}\n")
    assert main(["models", str(repository), "--config", str(settings)]) == 1


@pytest.mark.parametrize(("host", "status"), [("embedded", 1), ("ssh://root@192.0.2.11", 0)])
def test_the_command_knows_the_backends_of_a_stacks_nodes(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    status: int,
) -> None:
    edit(repository, "emotion", 'backend: "python"', 'backend: "pytorch"')
    (repository / "emotion" / "1" / "model.pt").write_text("weights")
    stack = {"config": {"gpu-inference:nodes": [{"name": "n", "host": host}]}}
    (tmp_path / "Pulumi.prod.yaml").write_text(json.dumps(stack))
    monkeypatch.setattr("infra.stack.files.PROJECT", tmp_path)
    assert main(["models", str(repository), "--for-stack", "prod"]) == status
    assert ("needs Triton's backend pytorch" in capsys.readouterr().out) is bool(status)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "there is no such folder"),
        (lambda path: path.write_text("x") and path, "not a folder"),
    ],
)
def test_a_path_that_is_no_folder_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], Path], message: str
) -> None:
    assert main(["models", str(make(tmp_path / "nothing"))]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_folder_has_no_model(tmp_path: Path) -> None:
    assert any("there is no model folder" in fault.message for fault in faults(tmp_path))
