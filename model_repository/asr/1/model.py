"""Triton's entrance: requests in, responses out; one bad request never hurts another.

`execute` hands requests over to the lanes and returns, so that Triton goes on scheduling while windows are
decoded. Each request is answered, through its response sender, as soon as its own windows are done.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ctranslate2
import numpy as np
import triton_python_backend_utils as pb_utils
from cpu_priority import at_low_priority
from device import choose_device
from engine import WhisperEngine
from job import Job
from lanes import Lanes, Room, Work, lanes_of
from options import Options, read_options
from passes import Request, Speech
from recogniser import recognise
from weights import find_weights
from windows import SAMPLE_RATE, WINDOW_S

# Requests that wait inside the model, at most: more than a node's windows of long files, which would else
# keep live speech in Triton's queue. Each is up to 2 MB.
ROOM = 64


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config["parameters"].items()}
        instances = sum(group["count"] for group in config["instance_group"])
        weights = find_weights(parameters["model_path"], Path(args["model_repository"]))
        size = (weights / "model.bin").stat().st_size
        device = choose_device(args, parameters, instances, ctranslate2, weights_bytes=size)
        beam_size = int(parameters["beam_size"])
        self.engine = self.engine_of_long = WhisperEngine(weights, device, beam_size=beam_size)
        if device.long_apart:
            apart = replace(device, workers=device.lanes)
            self.engine_of_long = at_low_priority(lambda: WhisperEngine(weights, apart, beam_size=beam_size))
        self.languages = _strings("languages", json.dumps(list(self.engine.languages)))
        # The first decoding allocates: let it happen before Triton says ready.
        noise = np.random.default_rng(0).normal(0, 0.01, SAMPLE_RATE).astype(np.float32)
        for engine in {self.engine, self.engine_of_long}:
            recognise(engine, [Speech(noise, Options(), Request("en"))])
        self.room = Room(max(ROOM, 2 * device.batch * device.lanes))
        batch = {work: device.drafts if work is Work.DRAFT else device.batch for work in Work}
        self.lanes = Lanes(self._decode, lanes_of(device.lanes, long_apart=device.long_apart), batch)
        # Speech is found in another thread, and in long files in one of their own.
        self.finders = ThreadPoolExecutor(device.lanes, "asr speech")
        self.long_finder = ThreadPoolExecutor(1, "asr long speech")
        pb_utils.Logger.log_info(f"asr: {weights} on {device}")

    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            if set(request.requested_output_names()) == {"languages"}:
                _send(sender, pb_utils.InferenceResponse([self.languages]))
                continue
            try:
                audio, options = self._read(request)
            except ValueError as error:
                _send(sender, _error(str(error), pb_utils.TritonError.INVALID_ARG))
                continue
            job = Job(
                audio, options, sender.is_cancelled, lambda job, sender=sender: self._answer(sender, job)
            )
            self.room.enter(job)
            long = audio.size > WINDOW_S * SAMPLE_RATE
            (self.long_finder if long else self.finders).submit(self._cut, job)
        self.room.wait()

    def finalize(self):
        self.finders.shutdown()
        self.long_finder.shutdown()
        self.lanes.close()

    def _cut(self, job):
        job.cut()
        if job.answered:
            self.room.leave(job)
        else:
            self.lanes.put(job.speeches, job.work)

    def _decode(self, speeches, work):
        for speech in speeches:
            self.room.leave(speech.job)
        try:
            engine = self.engine_of_long if work is Work.LONG else self.engine
            recognise(
                engine,
                speeches,
                lambda speech: speech.job.finish(speech),
                lambda speech: speech.job.is_late or self.lanes.is_awaited(work),
            )
        except Exception as error:  # noqa: BLE001 - the clients must be answered, the lane go on
            rest = [speech for speech in speeches if not speech.finished]
            if len(rest) == 1:
                rest[0].job.fail(error)
                return
            # One of them is to blame, and the others are not to suffer for it.
            for speech in rest:
                speech.parts.clear()
                self._decode([speech], work)

    def _answer(self, sender, job):
        """Answer a job; a failure is logged, so that the lane goes on."""
        try:
            _send(sender, _response(job, self.languages))
        except Exception as error:  # noqa: BLE001 - the lane serves others
            pb_utils.Logger.log_error(f"asr: a response could not be sent: {error!r}")

    def _read(self, request):
        audio = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy()
        if audio.size != audio.shape[-1]:
            raise ValueError(f"audio_input: expected one recording, [1, n], got {list(audio.shape)}")
        # A copy: the tensor lives until `execute` returns.
        audio = np.array(audio, np.float32).reshape(-1)
        if audio.size == 0:
            raise ValueError("audio_input: no samples")
        if not np.isfinite(audio).all():
            raise ValueError("audio_input: samples must be finite, full scale ±1")
        texts = [_string(request, name) for name in ("language", "options")]
        return audio, read_options(*texts, self.engine.languages)


def _response(job, languages):
    if job.error is not None:
        pb_utils.Logger.log_error(f"asr: {job.error!r}")
        return _error(str(job.error), pb_utils.TritonError.INTERNAL)
    if not job.wanted():
        return _error("the client has left", pb_utils.TritonError.CANCELLED)
    done = job.transcription()
    return pb_utils.InferenceResponse(
        [
            _strings("text", done.text),
            pb_utils.Tensor("confidence", np.array([[done.confidence]], np.float32)),
            _strings("language", done.language),
            _strings("segments", json.dumps(done.segments, ensure_ascii=False)),
            languages,
        ]
    )


def _error(reason, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(reason, code))


def _send(sender, response):
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


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
