"""Triton's onnxruntime backend for the embedded Triton, on the package onnxruntime.

Triton makes one `TritonPythonModel` for each instance of each model whose `backend` is onnxruntime.
"""

import json
import os
from pathlib import Path

import triton_python_backend_utils as pb_utils
from batches import groups, joined, parts
from graph import Graph, Placement


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(model_config):
        """Adds the tensors that config.pbtxt leaves out, as NVIDIA's backend does."""
        config = model_config.as_dict()
        if config["input"] and config["output"]:
            return model_config
        graph = Graph.open(_file(config), config["name"], Placement.on_cpu(threads=1))
        completed = graph.completed(config)
        model_config.set_max_batch_size(completed["max_batch_size"])
        # Triton refuses what it returned itself: a tensor of the configuration has fields beside these.
        if not config["input"]:
            for tensor in completed["input"]:
                model_config.add_input(tensor)
        if not config["output"]:
            for tensor in completed["output"]:
                model_config.add_output(tensor)
        if completed["max_batch_size"] > 0:
            model_config.set_dynamic_batching()
        return model_config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        placement = Placement.of(
            config, args["model_instance_kind"], int(args["model_instance_device_id"]), _cores()
        )
        self.graph = Graph.open(_file(config), config["name"], placement)
        self.graph.check(config)
        self.batching = config["max_batch_size"] > 0
        self.inputs = [tensor["name"] for tensor in config["input"]]
        for note in self.graph.notes(config):
            pb_utils.Logger.log_warn(f"{config['name']}: {note}")
        pb_utils.Logger.log_info(f"{config['name']}: {self.graph.provider}")

    def execute(self, requests):
        responses = [None] * len(requests)
        given = [self._given(request) for request in requests]
        for together in groups(given, joining=self.batching):
            # A client that left frees its place.
            for index in filter(lambda index: requests[index].is_cancelled(), together):
                left = pb_utils.TritonError("the client left", pb_utils.TritonError.CANCELLED)
                responses[index] = pb_utils.InferenceResponse(error=left)
            together = [index for index in together if responses[index] is None]
            if not together:
                continue
            wanted = sorted({name for index in together for name in requests[index].requested_output_names()})
            try:
                outputs = self.graph.run(joined([given[index] for index in together]), wanted)
                cut = parts(outputs, [given[index] for index in together]) if self.batching else [outputs]
            except Exception as error:  # noqa: BLE001 - onnxruntime raises nothing narrower
                failed = pb_utils.TritonError(f"onnxruntime: {error}")
                for index in together:
                    responses[index] = pb_utils.InferenceResponse(error=failed)
                continue
            for index, tensors in zip(together, cut, strict=True):
                names = requests[index].requested_output_names()
                responses[index] = pb_utils.InferenceResponse(
                    [pb_utils.Tensor(name, tensors[name]) for name in names]
                )
        return responses

    def _given(self, request):
        tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in self.inputs}
        return {name: tensor.as_numpy() for name, tensor in tensors.items() if tensor is not None}


def _file(config):
    # The folder of the version; Triton gives a path without it where it asks for a configuration.
    return Path(pb_utils.get_model_dir()) / (config.get("default_model_filename") or "model.onnx")


def _cores():
    return len(os.sched_getaffinity(0))
