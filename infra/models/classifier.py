"""The model folder of an exported audio classifier: an ONNX graph for Triton's onnxruntime backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tritonclient.grpc import model_config_pb2

from infra import names
from infra.models.catalogue import Task
from infra.models.model_folder import card, write_config, write_origin
from infra.models.problem import ModelProblem
from infra.models.source import Arrived, Source

GRAPH = "model.onnx"
INPUT = "audio_input"
#: The output by task, as the service's default settings name it.
OUTPUTS: dict[Task, str] = {"emotion": "logits", "synthesis": "synthesis_output"}
MAX_BATCH = 16
#: The shortest, usual and longest audio of TensorRT's engines: 25 ms, 5 s and 30 s at 16 kHz. Longer audio
#: fails on a GPU node. Without these, each new length would build an engine while a client waits.
#: The longest audio of one request; the service cuts longer recordings.
WINDOW_SECONDS = 30
_PROFILE = {
    "min": f"{INPUT}:1x400",
    "opt": f"{INPUT}:8x80000",
    "max": f"{INPUT}:{MAX_BATCH}x{WINDOW_SECONDS * 16000}",
}

_SYNTHETIC = {"fake", "spoof", "spoofed", "synthetic", "deepfake", "generated", "ai", "cloned", "machine"}


def synthetic_label(labels: list[str], asked: str | None) -> int:
    """The index of the label for synthetic speech: the one that was asked for, else the one so called.

    Raises ModelProblem where there is none.
    """
    if asked is not None:
        if asked not in labels:
            raise ModelProblem(
                f"--synthetic-label {asked}: the checkpoint has the labels {', '.join(labels)}"
            )
        return labels.index(asked)
    found = [index for index, label in enumerate(labels) if label.lower() in _SYNTHETIC]
    if len(found) != 1:
        raise ModelProblem(
            f"which of the labels {', '.join(labels)} is synthetic speech? --synthetic-label LABEL says it"
        )
    return found[0]


def task_of(labels: list[str], asked: Task | None) -> Task:
    """The task that was asked for, else the one that the labels tell."""
    if asked is not None:
        return asked
    return "synthesis" if any(label.lower() in _SYNTHETIC for label in labels) else "emotion"


def renamed(labels: list[str], names_by_label: dict[str, str]) -> list[str]:
    """The labels with new names. Raises ModelProblem for a label that the checkpoint has not."""
    if unknown := sorted(names_by_label.keys() - set(labels)):
        raise ModelProblem(f"the checkpoint has no label {unknown[0]}; it has {', '.join(labels)}")
    return [names_by_label.get(label, label) for label in labels]


def complete(
    folder: Path, source: Source, arrived: Arrived, task: Task, labels: list[str], architecture: str
) -> None:
    """Make the folder, which has the graph in `1/`, a model folder; its name becomes the model's name."""
    config = _config(folder.name, OUTPUTS[task], len(labels) if task == "emotion" else 1)
    if task == "emotion":
        # Triton serves a model's configuration to the service, but no files.
        config.parameters["labels"].string_value = json.dumps(labels, ensure_ascii=False)
        (folder / "labels.json").write_text(json.dumps(labels, ensure_ascii=False) + "\n", encoding="utf-8")
    write_config(folder, config, card(source, f"{architecture}: {source.repository or source.slug}", None))
    write_origin(folder, source, arrived)


def _config(name: str, output: str, width: int) -> Any:
    config = model_config_pb2.ModelConfig(name=name, backend="onnxruntime", max_batch_size=MAX_BATCH)
    config.input.add(name=INPUT, data_type=model_config_pb2.TYPE_FP32, dims=[-1])
    config.output.add(name=output, data_type=model_config_pb2.TYPE_FP32, dims=[width])
    config.dynamic_batching.SetInParent()
    config.instance_group.add(kind=model_config_pb2.ModelInstanceGroup.KIND_AUTO, count=1)
    tensorrt = config.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    tensorrt.parameters["precision_mode"] = "FP32"  # FP16 is twice as fast, and its logits differ
    tensorrt.parameters["trt_engine_cache_enable"] = "1"
    tensorrt.parameters["trt_engine_cache_path"] = names.ENGINE_CACHE
    for bound, shape in _PROFILE.items():
        tensorrt.parameters[f"trt_profile_{bound}_shapes"] = shape
    return config
