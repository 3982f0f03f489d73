"""Whisper's decoder: encoder states and the tokens so far to the logits of the next token."""

import json
import os
from pathlib import Path

import ctranslate2
import numpy as np
import triton_python_backend_utils as pb_utils
from weights import find_weights

# CTranslate2 generates at most half of Whisper's context of 448 tokens.
MAX_CONTEXT = 448
MAX_TEXT_TOKENS = MAX_CONTEXT // 2 - 1


class TritonPythonModel:
    def initialize(self, args):
        parameters = {
            key: value["string_value"]
            for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        weights = find_weights(parameters["model_path"], Path(args["model_repository"]))
        self.whisper = ctranslate2.models.Whisper(
            str(weights),
            device=parameters["device"],
            compute_type="default",
            intra_threads=int(parameters["threads"]) or len(os.sched_getaffinity(0)),
        )
        tokenizer = json.loads((weights / "tokenizer.json").read_text(encoding="utf-8"))
        self.added = added = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        self.no_timestamps = added["<|notimestamps|>"]
        self.end_of_text = added["<|endoftext|>"]
        start = [added["<|startoftranscript|>"]]
        # A multilingual decoder needs the tokens of language and task first.
        if self.whisper.is_multilingual:
            start += [added["<|en|>"], added["<|transcribe|>"]]
        silence = ctranslate2.StorageView.from_array(np.zeros((1, self.whisper.n_mels, 3000), np.float32))
        encoded = self.whisper.encode(silence, to_cpu=True)
        self.width = encoded.shape[-1]
        self.start_of_transcript = start[0]
        self.vocabulary = self._logits(encoded, [*start, self.no_timestamps]).size

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        tokens = pb_utils.get_input_tensor_by_name(request, "tokens").as_numpy()[0]
        states = pb_utils.get_input_tensor_by_name(request, "encoder_output").as_numpy()
        problem = self._problem(tokens, states)
        if problem:
            invalid = pb_utils.TritonError(problem, pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=invalid)
        encoded = ctranslate2.StorageView.from_array(np.ascontiguousarray(states, np.float32))
        tokens = tokens.tolist()
        asks_language = self.whisper.is_multilingual and tokens == [self.start_of_transcript]
        logits = self._languages(encoded) if asks_language else self._logits(encoded, tokens)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits.reshape(1, 1, -1))])

    def _problem(self, tokens, states):
        tokens = tokens.tolist()
        if states.shape[-1] != self.width:
            return f"encoder_output: width {states.shape[-1]}, expected {self.width}"
        if not np.isfinite(states).all():
            return "encoder_output: values must be finite"
        if self.whisper.is_multilingual and tokens == [self.start_of_transcript]:
            return None
        if self.start_of_transcript not in tokens or self.no_timestamps not in tokens:
            return (
                f"tokens: expected <|startoftranscript|> ({self.start_of_transcript}), then <|notimestamps|> "
                f"({self.no_timestamps}), then the text so far"
            )
        text = self._text(tokens)
        if any(not 0 <= token < self.end_of_text for token in text):
            return f"tokens: after <|notimestamps|> ids must be from 0 to {self.end_of_text - 1}"
        if any(not 0 <= token < self.vocabulary for token in tokens):
            return f"tokens: ids must be from 0 to {self.vocabulary - 1}"
        if len(text) > MAX_TEXT_TOKENS or len(tokens) > MAX_CONTEXT - 1:
            return (
                f"tokens: {len(tokens)} given, {len(text)} of them text; "
                f"at most {MAX_CONTEXT - 1} and {MAX_TEXT_TOKENS}"
            )
        return None

    def _languages(self, encoded):
        # After the start token alone Whisper gives the language; CTranslate2's search expects a timestamp.
        logits = np.full(self.vocabulary, -np.inf, np.float32)
        for token, probability in self.whisper.detect_language(encoded)[0]:
            logits[self.added[token]] = np.log(max(probability, 1e-30))
        return logits

    def _text(self, tokens):
        return tokens[tokens.index(self.no_timestamps) + 1 :]

    def _logits(self, encoded, tokens):
        # CTranslate2's search without suppression, forced along the text so far and one token further. The
        # scores of that step are the model's logits.
        steps = len(self._text(tokens)) + 1
        result = self.whisper.generate(
            encoded,
            [tokens],
            beam_size=1,
            max_length=2 * steps,
            suppress_blank=False,
            suppress_tokens=[],
            return_logits_vocab=True,
        )[0]
        return np.array(result.logits[0][steps - 1].to(ctranslate2.DataType.float32), np.float32)
