"""Emotion of a text, by the lexicon and rules in lexicon.py."""

from pathlib import Path

import triton_python_backend_utils as pb_utils
from lexicon import load, logits


class TritonPythonModel:
    def initialize(self, args):
        self.lexicon = load(Path(__file__).parent / "lexicon.json")

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        raw = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[0]
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            invalid = pb_utils.TritonError(f"text: not UTF-8: {error}", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=invalid)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits(text, self.lexicon))])
