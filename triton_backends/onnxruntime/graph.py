"""An ONNX graph in a session of onnxruntime, compared with the model's configuration in Triton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

#: onnxruntime's names of datatypes, and Triton's.
_DATATYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(double)": "TYPE_FP64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(bool)": "TYPE_BOOL",
    "tensor(string)": "TYPE_STRING",
}
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ANY = -1
#: The batch size that NVIDIA's backend sets where config.pbtxt says nothing.
_COMPLETED_BATCH = 4


@dataclass(frozen=True)
class Placement:
    """Where one instance of a model runs: its GPU (None: the CPU), and its threads on the CPU."""

    gpu: int | None
    threads: int
    parallel_threads: int = 0

    @classmethod
    def on_cpu(cls, threads: int) -> Placement:
        return cls(None, threads)

    @classmethod
    def of(cls, config: Mapping[str, Any], kind: str, device: int, cores: int) -> Placement:
        """From an instance's kind and device and the model's parameters; the instances share `cores`."""
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        instances = sum(max(group.get("count", 1), 1) for group in config.get("instance_group", [])) or 1
        return cls(
            gpu=device if kind == "GPU" else None,
            threads=int(parameters.get("intra_op_thread_count") or 0) or max(1, cores // instances),
            parallel_threads=int(parameters.get("inter_op_thread_count") or 0),
        )


class Graph:
    """An open graph. Errors are ValueErrors that name the model, the tensor, and what the graph has."""

    def __init__(self, session: onnxruntime.InferenceSession, model: str, placement: Placement) -> None:
        self._session = session
        self._model = model
        self._placement = placement
        self._inputs = {node.name: node for node in session.get_inputs()}
        self._outputs = {node.name: node for node in session.get_outputs()}

    @classmethod
    def open(cls, file: Path, model: str, placement: Placement) -> Graph:
        """Reads the ONNX file. Raises ValueError with onnxruntime's reason."""
        if not file.is_file():
            there = ", ".join(sorted(path.name for path in file.parent.iterdir())) or "nothing"
            raise ValueError(f"model {model}: there is no {file.name} in {file.parent}; it has {there}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = placement.threads
        options.inter_op_num_threads = placement.parallel_threads
        # Threads that wait for work would keep the cores from the node's other models.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        providers: list[Any] = [_CPU]
        if placement.gpu is not None and _CUDA in onnxruntime.get_available_providers():
            providers.insert(0, (_CUDA, {"device_id": str(placement.gpu)}))
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=providers)
        except Exception as error:
            raise ValueError(f"model {model}: onnxruntime cannot read {file.name}: {error}") from error
        return cls(session, model, placement)

    @property
    def provider(self) -> str:
        """Where the graph runs, for the log."""
        if self._on_gpu:
            return f"onnxruntime {onnxruntime.__version__} on GPU {self._placement.gpu}"
        return f"onnxruntime {onnxruntime.__version__} on the CPU, {self._placement.threads} threads"

    @property
    def _on_gpu(self) -> bool:
        return self._session.get_providers()[0] == _CUDA

    def notes(self, config: Mapping[str, Any]) -> list[str]:
        """What the configuration asks for and does not get here."""
        notes = []
        if self._placement.gpu is not None and not self._on_gpu:
            has = ", ".join(onnxruntime.get_available_providers())
            notes.append(
                f"runs on the CPU although its instance is on GPU {self._placement.gpu}: install "
                f"onnxruntime-gpu instead of onnxruntime (execution providers here: {has})"
            )
        accelerators = config.get("optimization", {}).get("execution_accelerators", {})
        if self._on_gpu:
            notes += [
                f"the accelerator {accelerator['name']} has no effect in the embedded Triton"
                for accelerator in accelerators.get("gpu_execution_accelerator", [])
            ]
        return notes

    def check(self, config: Mapping[str, Any]) -> None:
        """Compares the tensors of config.pbtxt with the graph's. Raises ValueError for what does not fit."""
        problems = []
        batching = config["max_batch_size"] > 0
        for kind, nodes in (("input", self._inputs), ("output", self._outputs)):
            for tensor in config[kind]:
                problems += _mismatch(kind, tensor, nodes, batching)
        declared = {tensor["name"] for tensor in config["input"]}
        problems += [
            f"config.pbtxt lacks the graph's input {_described(node)}"
            for name, node in self._inputs.items()
            if name not in declared
        ]
        if problems:
            raise ValueError(f"model {self._model}: {'; '.join(problems)}")

    def completed(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`max_batch_size`, `input` and `output`, from the graph where the configuration leaves them out."""
        nodes = [*self._inputs.values(), *self._outputs.values()]
        size = config["max_batch_size"]
        if size == 0 and not config["input"] and not config["output"]:
            batching = all(node.shape and not isinstance(node.shape[0], int) for node in nodes)
            size = _COMPLETED_BATCH if batching else 0

        def tensors(graph: Mapping[str, Any]) -> list[dict[str, Any]]:
            return [
                {
                    "name": name,
                    "data_type": _DATATYPES.get(node.type, node.type),
                    "dims": _dims(node)[1:] if size > 0 else _dims(node),
                }
                for name, node in graph.items()
            ]

        return {
            "max_batch_size": size,
            "input": config["input"] or tensors(self._inputs),
            "output": config["output"] or tensors(self._outputs),
        }

    def run(self, tensors: Mapping[str, NDArray], wanted: Sequence[str]) -> dict[str, NDArray]:
        """The outputs called `wanted` for the inputs `tensors`; strings are bytes in both, as in Triton."""
        given = {name: _decoded(array) for name, array in tensors.items()}
        found = self._session.run(list(wanted), given)
        return {name: _encoded(array) for name, array in zip(wanted, found, strict=True)}


def _mismatch(kind: str, tensor: Mapping[str, Any], nodes: Mapping[str, Any], batching: bool) -> list[str]:
    node = nodes.get(tensor["name"])
    if node is None:
        has = ", ".join(map(_described, nodes.values())) or "none"
        return [f"{kind} {tensor['name']!r} is not in the graph, which has {has}"]
    if tensor["data_type"] != _DATATYPES.get(node.type):
        return [f"{kind} {tensor['name']!r} is {tensor['data_type']}, and the graph has {_described(node)}"]
    declared = [int(size) for size in tensor.get("reshape", tensor).get("shape", tensor["dims"])]
    dims = _dims(node)
    if batching:
        if not dims or dims[0] != _ANY:
            return [
                f"max_batch_size needs a first dimension of any length; the graph has {_described(node)}: "
                "set max_batch_size to 0, or export the graph with a dynamic batch dimension"
            ]
        dims = dims[1:]
    fits = len(declared) == len(dims) and all(
        size in (_ANY, wanted) for size, wanted in zip(dims, declared, strict=True)
    )
    if not fits:
        return [
            f"{kind} {tensor['name']!r} has dims {declared}, and the graph has {_described(node)}"
            + (", the first for the batch" if batching else "")
        ]
    return []


def _dims(node: Any) -> list[int]:
    return [size if isinstance(size, int) else _ANY for size in node.shape]


def _described(node: Any) -> str:
    return f"{node.name} ({_DATATYPES.get(node.type, node.type)} {_dims(node)})"


def _decoded(array: NDArray) -> NDArray:
    if array.dtype != np.object_:
        return array
    return np.array([each.decode() for each in array.reshape(-1)], np.object_).reshape(array.shape)


def _encoded(array: NDArray) -> NDArray:
    if array.dtype != np.object_:
        return array
    return np.array([each.encode() for each in array.reshape(-1)], np.object_).reshape(array.shape)
