"""`Runtime` over one Triton server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from math import prod

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.audio import Audio, mel
from inference_service.errors import ServiceError, Unsupported
from inference_service.model_cards import ModelDescription, ModelRole
from inference_service.runtimes.base import Call, Readiness
from inference_service.runtimes.triton import answers
from inference_service.runtimes.triton.answers import Answer
from inference_service.runtimes.triton.client import TritonClient
from inference_service.runtimes.triton.contract import Interface, mel_bands
from inference_service.runtimes.triton.inference import Inference, add_text, time_limit
from inference_service.runtimes.triton.labels import synthetic
from inference_service.runtimes.triton.models import TritonModels
from inference_service.runtimes.triton.revival import Revival
from inference_service.runtimes.triton.shared_memory import SharedMemoryPool
from inference_service.runtimes.triton.speech_inputs import add_speech_inputs, language_of
from inference_service.runtimes.triton.whisper_pair import WhisperPair
from inference_service.settings import ClassifierSettings, ModelSettings, Settings
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TranscribeOptions,
)

#: Windows of one request that a classifier has at the same time: enough for a batch, and others get a turn.
_WINDOWS_AT_ONCE = 8

_log = logging.getLogger(__name__)


class TritonRuntime:
    """Runs the configured models on the Triton server of `settings.ai.runtime.triton`."""

    name = "triton"

    def __init__(self, settings: Settings) -> None:
        self._triton = settings.ai.runtime.triton
        self.address = self._triton.grpc_address
        self._settings = settings.ai.models
        self.capabilities: frozenset[Task] = self._settings.tasks
        self.window_seconds: float | None = self._settings.asr.window_seconds
        self._pair: WhisperPair | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and compare each model with its contract, now and whenever Triton was restarted."""
        self._client = TritonClient(self._triton.grpc_address)
        self._client.start()
        self._pool = SharedMemoryPool(self._client, enabled=self._triton.shared_memory != "off")
        self._revival = Revival(self._client, time_limit=self._triton.timeout)
        self._models = TritonModels(self._client, self._revival, self._settings)
        self._inference = Inference(self._client, self._pool, self._revival)
        if self._settings.asr.decoder_path is not None:
            self._pair = WhisperPair(self._models, self._inference, self._settings.asr)
        await self._inspect()
        self._watch = asyncio.create_task(self._follow_connection())

    async def close(self) -> None:
        """Release the shared memory and close the connection."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._revival.close()
        await self._pool.close()
        await self._client.close()

    async def readiness(self) -> Readiness:
        """Whether Triton and its models are ready, and whether the models match the settings."""
        try:
            problems = await self._models.problems()
        except ServiceError as error:
            return Readiness(False, [str(error)])
        if self._pair is not None and Task.ASR in self.capabilities:
            problems += self._pair.problems()
        return Readiness(not problems, problems)

    def known(self, role: ModelRole) -> ModelDescription | None:
        """What the model's config.pbtxt said of it when Triton was last asked."""
        return self._models.known(role)

    async def describe(self, role: ModelRole) -> ModelDescription:
        """What the model's config.pbtxt says of it, as Triton has loaded it; at most seconds old."""
        return await self._models.describe(self._settings.name_of(role) or "")

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Load the task's models if Triton allows that, and run each once on a second of silence."""
        settings = self._settings.for_task(task)
        silence = Audio(np.zeros(mel.SAMPLE_RATE, dtype=np.int16), mel.SAMPLE_RATE)
        await self._models.load_missing(task, self._triton.timeout)
        match task:
            case Task.ASR:
                await self.transcribe(silence, TranscribeOptions(), call)
            case Task.EMOTION:
                await self.emotion_of_audio(silence, call)
            case Task.SYNTHESIS:
                await self.detect_synthesis(silence, call)
        return ModelStatus(settings.model_name, ready=True, model_path=settings.model_path)

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text, through one model or through Whisper's encoder and decoder."""
        if self._pair is not None:
            return await self._pair.transcribe(audio, options, call)
        asr = self._settings.asr
        add = partial(add_speech_inputs, asr=asr, options=options, priority=call.priority)
        answer = await self._infer(asr, audio, call, add)
        return answers.transcript(answer, asr.output_names, language_of(asr, options), audio.duration_ms)

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion, from the model's logits."""
        emotion = self._settings.emotion
        found = await self._classify(emotion, audio, call)
        return await self._emotion(emotion.model_name, found, audio.duration_ms)

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text. Raises Unsupported where no model for it is configured."""
        emotion = self._settings.emotion
        name = emotion.text_model_name
        if name is None:
            raise Unsupported("emotion of text: no model is configured (ai.models.emotion.text_model_name)")
        loaded = await self._models.get(name)
        request = pb.ModelInferRequest(model_name=name, id=call.request_id)
        add_text(request, "text", loaded.interface.shape_to_send("text", (1,)), text)
        answer = await self._inference.run(request, None, time_limit(emotion, call))
        return await self._emotion(name, [answer], 0)

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic, from the model's probability or its logits."""
        synthesis = self._settings.synthesis
        name = synthesis.output_names[0]
        found = await self._classify(synthesis, audio, call)
        labels = (await self._models.get(synthesis.model_name)).labels
        fake = synthetic(synthesis, labels)

        def probability(answer: Answer) -> float:
            if not labels:
                return answer.probability(name)
            scores = zip(labels, answers.shares(answer, name, labels), strict=True)
            return sum(score for label, score in scores if label in fake)

        return answers.synthesis([probability(each) for each in found], audio.duration_ms)

    async def _classify(self, model: ClassifierSettings, audio: Audio, call: Call) -> list[Answer]:
        """The model's answer to each window of the audio: to the whole where no window is set."""
        if model.window_seconds is None or audio.seconds <= model.window_seconds:
            return [await self._infer(model, audio, call)]
        places = asyncio.Semaphore(_WINDOWS_AT_ONCE)

        async def one(window: Audio) -> Answer:
            async with places:
                return await self._infer(model, window, call)

        running = [asyncio.create_task(one(window)) for window in audio.windows(model.window_seconds)]
        try:
            return await asyncio.gather(*running)
        finally:
            # The first failure ends the others.
            for task in running:
                task.cancel()

    async def _infer(
        self, model: ModelSettings, audio: Audio, call: Call, add_others: Callable[..., None] | None = None
    ) -> Answer:
        """Run `model` on the audio in the form of its `input_type`.

        `add_others` adds the model's other inputs to a request, given its interface and the audio's samples.
        """
        interface = (await self._models.get(model.model_name)).interface
        request = pb.ModelInferRequest(model_name=model.model_name, id=call.request_id)
        if model.input_type == "waveform" and not audio.needs_resampling(model.sample_rate):
            shape: tuple[int, ...] = (audio.frames,)
            write = audio.write_into
        else:
            features = await asyncio.to_thread(_features, audio, model, interface)
            shape, write = features.shape, partial(np.copyto, src=features.reshape(-1))
        if add_others is not None:
            add_others(request, interface, samples=shape[-1])
        async with self._inference.slot(prod(shape), write, longest=model.timeout) as slot:
            slot.add_to(request, model.input_name, interface.shape_to_send(model.input_name, shape))
            return await self._inference.run(request, slot, time_limit(model, call))

    async def _emotion(self, model: str, found: list[Answer], duration_ms: int) -> EmotionResult:
        labels = (await self._models.get(model)).labels
        name = self._settings.emotion.output_names[0]
        return answers.emotion([answers.shares(each, name, labels) for each in found], labels, duration_ms)

    async def _follow_connection(self) -> None:
        """After each loss of the connection, wait for a new one and inspect everything again."""
        while True:
            await self._client.disconnected()
            self._models.forget()
            self._revival.forget()
            await self._client.connected()
            _log.info("Triton at %s is back", self._client.address)
            await self._inspect()

    async def _inspect(self) -> None:
        """Attach the shared memory, compare every model with its contract, and log the problems."""
        self._models.forget()
        try:
            await self._pool.attach()
        except ServiceError as error:
            _log.warning("%s", error)
            return
        for problem in (await self.readiness()).problems:
            _log.error("%s", problem)


def _features(audio: Audio, model: ModelSettings, interface: Interface) -> NDArray[np.float32]:
    """The waveform at the model's rate, or its log-mel spectrogram: seconds of audio take milliseconds."""
    if model.input_type == "mel":
        return mel.log_mel(audio.waveform(mel.SAMPLE_RATE), mel_bands(interface.inputs[model.input_name]))
    return audio.waveform(model.sample_rate)
