"""Whisper's encoder: log-mel features of one 30 s window to encoder states."""

import json
import os
from pathlib import Path

import ctranslate2
import numpy as np
import triton_python_backend_utils as pb_utils
from weights import find_weights


class TritonPythonModel:
    def initialize(self, args):
        parameters = {
            key: value["string_value"]
            for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        self.whisper = ctranslate2.models.Whisper(
            str(find_weights(parameters["model_path"], Path(args["model_repository"]))),
            device=parameters["device"],
            compute_type="default",
            intra_threads=int(parameters["threads"]) or len(os.sched_getaffinity(0)),
        )
        wanted = self.whisper.n_mels
        bands = json.loads(args["model_config"])["input"][0]["dims"][1]
        if bands != wanted:
            raise ValueError(
                f"the weights take {wanted} mel bands, and the input mel has {bands}: set its dims to "
                f"[ 1, {wanted}, 3000 ] in config.pbtxt"
            )

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        mel = pb_utils.get_input_tensor_by_name(request, "mel").as_numpy()
        if not np.isfinite(mel).all():
            invalid = pb_utils.TritonError("mel: values must be finite", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=invalid)
        features = ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, np.float32))
        states = self.whisper.encode(features, to_cpu=True).to(ctranslate2.DataType.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("encoder_output", np.array(states))])
