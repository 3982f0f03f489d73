"""Probability that speech is synthetic: logistic regression over statistics of the log-mel spectrogram."""

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from features import features


class TritonPythonModel:
    def initialize(self, args):
        weights = json.loads((Path(__file__).parent / "weights.json").read_text(encoding="utf-8"))
        self.mean, self.scale, self.coefficients = (
            np.array(weights[key]) for key in ("mean", "scale", "coefficients")
        )
        self.intercept = weights["intercept"]

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        mel = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy()
        if not np.isfinite(mel).all():
            invalid = pb_utils.TritonError(
                "audio_input: values must be finite", pb_utils.TritonError.INVALID_ARG
            )
            return pb_utils.InferenceResponse(error=invalid)
        probability = np.array([self._probability(mel)], np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("synthesis_output", probability)])

    def _probability(self, mel):
        values = features(mel) if mel.shape[1] else None
        if values is None:
            return 0.5  # too little sound for a verdict
        # Values far outside the training data count as its limits.
        standardised = np.clip((values - self.mean) / self.scale, -4, 4)
        return 1 / (1 + np.exp(-(standardised @ self.coefficients + self.intercept)))
