"""Connects the transcriber to Triton: tensors in, tensors out. A bad request never affects the others of its
batch."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import triton_python_backend_utils as pb_utils
from transcriber import MAX_PROMPT_CHARACTERS, SAMPLE_RATE, Options, Transcriber
from weights import find_weights


class TritonPythonModel:
    def initialize(self, args):
        parameters = {
            key: value["string_value"]
            for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        workers = int(parameters["workers"])
        weights = find_weights(parameters["model_path"])
        self.transcriber = Transcriber(
            weights,
            device=parameters["device"],
            compute_type=parameters["compute_type"],
            threads=int(parameters["threads"]) or len(os.sched_getaffinity(0)),
            workers=workers,
            beam_size=int(parameters["beam_size"]),
        )
        # The first decoding allocates memory, so it runs before Triton reports the model as ready.
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
        self.transcriber.transcribe(noise, Options())
        self.pool = ThreadPoolExecutor(workers)
        pb_utils.Logger.log_info(f"asr: {weights} on {self.transcriber.device}")

    def execute(self, requests):
        return list(self.pool.map(self._respond, requests))

    def finalize(self):
        self.pool.shutdown()

    def _respond(self, request):
        try:
            audio, options = _read(request)
            transcript = self.transcriber.transcribe(audio, options)
        except ValueError as error:
            invalid = pb_utils.TritonError(str(error), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=invalid)
        return pb_utils.InferenceResponse(
            [
                _strings("text", transcript.text),
                pb_utils.Tensor("confidence", np.array([[transcript.confidence]], np.float32)),
                _strings("language", transcript.language),
                _strings("segments", json.dumps(transcript.segments, ensure_ascii=False)),
            ]
        )


def _read(request):
    audio = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy().reshape(-1)
    if audio.size == 0:
        raise ValueError("audio_input: no samples")
    if not np.isfinite(audio).all():
        raise ValueError("audio_input: samples must be finite, full scale ±1")
    try:
        asked = json.loads(_string(request, "options") or "{}")
    except json.JSONDecodeError as error:
        raise ValueError(f"options: not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise ValueError("options: expected a JSON object")
    return audio, Options(language=_string(request, "language"), **_checked(asked))


def _checked(asked):
    known = {"word_timestamps": bool, "prompt": str, "temperature": (int, float)}
    for key, value in asked.items():
        if key not in known:
            raise ValueError(f"options.{key}: unknown; allowed: {', '.join(known)}")
        if value is None:
            continue
        if not isinstance(value, known[key]) or (key == "temperature" and isinstance(value, bool)):
            raise ValueError(f"options.{key}: {value!r} has the wrong type")
    given = {key: value for key, value in asked.items() if value is not None}
    if not 0 <= given.get("temperature", 0) <= 1:
        raise ValueError(f"options.temperature: {given['temperature']} is not between 0 and 1")
    if "prompt" in given:
        # Whisper uses the end of a prompt; its decoder would refuse a prompt longer than its context.
        given["prompt"] = given["prompt"][-MAX_PROMPT_CHARACTERS:]
    return given


def _string(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    try:
        return tensor.as_numpy().reshape(-1)[0].decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8: {error}") from error


def _strings(name, value):
    return pb_utils.Tensor(name, np.array([[value.encode()]], np.object_))
