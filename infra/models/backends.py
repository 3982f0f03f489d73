"""Triton's backends: the file that each reads, and which of them a model's folder needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from infra.models.pbtxt import fields

CONFIG = "config.pbtxt"
TENSORRT = "tensorrt"

#: What a backend or platform reads from a version, unless `default_model_filename` names another file.
FILES = {
    "python": "model.py",
    "onnxruntime": "model.onnx",
    "onnxruntime_onnx": "model.onnx",
    TENSORRT: "model.plan",
    "tensorrt_plan": "model.plan",
    "pytorch": "model.pt",
    "pytorch_libtorch": "model.pt",
    "openvino": "model.xml",
    "tensorflow_savedmodel": "model.savedmodel",
    "tensorflow_graphdef": "model.graphdef",
    "dali": "model.dali",
    "vllm": "model.json",
}
#: Files that tell Triton a model's tensors, so that config.pbtxt may leave those out, or be missing.
DESCRIBING = {"model.onnx", "model.plan", "model.xml", "model.savedmodel"}

#: The backends of the platforms, the older way to name what runs a model.
_PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "tensorrt_plan": TENSORRT,
    "pytorch_libtorch": "pytorch",
    "tensorflow_savedmodel": "tensorflow",
    "tensorflow_graphdef": "tensorflow",
}
_ACCELERATOR = ("optimization", "execution_accelerators", "gpu_execution_accelerator", "name")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a model's folder needs of its Triton.

    `backend` is None for an ensemble, and where nothing names one. With `builds_engines`, Triton builds
    TensorRT engines at the first load on a GPU. With `completion`, config.pbtxt is missing or lacks tensors.
    """

    backend: str | None
    builds_engines: bool
    completion: bool


def needs(config: str, files: Iterable[str]) -> Needs:
    """From the text of a config.pbtxt ("" if there is none), and the names of the files in the versions."""
    values: dict[tuple[str, ...], list[str]] = {}
    for path, value, _ in fields(config):
        values.setdefault(path, []).append(value)
    backend, platform = (next(iter(values.get((key,), [])), "") for key in ("backend", "platform"))
    there = set(files)
    by_file = (name for name, file in FILES.items() if file in there and name not in _PLATFORMS)
    named = backend or _PLATFORMS.get(platform, platform)
    ensemble = named == "ensemble"
    return Needs(
        backend=None if ensemble else named or next(by_file, None),
        builds_engines=TENSORRT in values.get(_ACCELERATOR, []),
        completion=not ensemble and not {("input", "name"), ("output", "name")} <= values.keys(),
    )


def needs_of(folder: Path) -> Needs:
    """What the model in a folder on this computer needs; a folder that is not there needs nothing known."""
    config = folder / CONFIG
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    return needs(text, (path.name for path in folder.glob("[0-9]*/*")))
