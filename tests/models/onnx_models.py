"""Small ONNX models for tests, in folders as `python -m infra.models export` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
from onnx import TensorProto, helper

#: The configuration that exported models have.
CONFIG = """
backend: "onnxruntime"
max_batch_size: 16
input [{ name: "audio_input" data_type: TYPE_FP32 dims: [ -1 ] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [ 3 ] }]
dynamic_batching { }
instance_group [{ kind: KIND_AUTO count: 1 }]
"""


def loudness() -> onnx.ModelProto:
    """A classifier of waveforms [batch, samples]: its logits [batch, 3] are mean, maximum and minimum."""
    nodes = [
        helper.make_node("ReduceMean", ["audio_input"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["audio_input"], ["max"], axes=[1], keepdims=1),
        helper.make_node("ReduceMin", ["audio_input"], ["min"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["mean", "max", "min"], ["logits"], axis=1),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("audio_input", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
    )


def signs() -> onnx.ModelProto:
    """A classifier of waveforms with two logits [batch, 2]: minus and plus eight times the mean."""
    scale = onnx.numpy_helper.from_array(np.array([[-8.0, 8.0]], np.float32), "scale")
    nodes = [
        helper.make_node("ReduceMean", ["audio_input"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "scale"], ["logits"]),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info("audio_input", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [scale],
    )


def triples() -> onnx.ModelProto:
    """Cuts a waveform into rows of three, so that its answer has no row for each of the batch."""
    width = onnx.numpy_helper.from_array(np.array([-1, 3]), "width")
    return _model(
        [helper.make_node("Reshape", ["audio_input", "width"], ["logits"])],
        [helper.make_tensor_value_info("audio_input", TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 3])],
        [width],
    )


def greeting() -> onnx.ModelProto:
    """Takes strings [n] and returns them: a graph without a batch dimension, of another datatype."""
    return _model(
        [helper.make_node("Identity", ["text"], ["answer"])],
        [helper.make_tensor_value_info("text", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("answer", TensorProto.STRING, ["n"])],
    )


def write(repository: Path, name: str, model: onnx.ModelProto | bytes, config: str | None = CONFIG) -> Path:
    """Writes the folder of a model, without config.pbtxt if `config` is None. Returns the folder."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    (folder / "1" / "model.onnx").write_bytes(content)
    if config is not None:
        (folder / "config.pbtxt").write_text(config)
    return folder


def _model(nodes: list, inputs: list, outputs: list, constants: list | None = None) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "test", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return model
