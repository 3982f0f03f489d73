"""Emotion of a speaker's voice, by the rule in prosody.py."""

import numpy as np
import triton_python_backend_utils as pb_utils
from prosody import logits, measure


class TritonPythonModel:
    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        audio = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy()
        if not np.isfinite(audio).all():
            invalid = pb_utils.TritonError(
                "audio_input: samples must be finite", pb_utils.TritonError.INVALID_ARG
            )
            return pb_utils.InferenceResponse(error=invalid)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits(measure(audio)))])
