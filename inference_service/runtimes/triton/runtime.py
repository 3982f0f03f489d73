"""`Runtime` over one Triton server."""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from inference_service.audio import Audio, mel
from inference_service.errors import ServiceError
from inference_service.runtimes.base import Call, Readiness
from inference_service.runtimes.triton.audio_models import AudioModels
from inference_service.runtimes.triton.client import TritonClient
from inference_service.runtimes.triton.inference import Inference
from inference_service.runtimes.triton.models import TritonModels
from inference_service.runtimes.triton.revival import Revival
from inference_service.runtimes.triton.shared_memory import SharedMemoryPool
from inference_service.runtimes.triton.whisper_pair import WhisperPair
from inference_service.settings import Settings
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    SynthesisResult,
    Task,
    TranscribeOptions,
)

_log = logging.getLogger(__name__)


class TritonRuntime:
    """Runs the configured models on the Triton server of `settings.ai.runtime.triton`."""

    name = "triton"

    def __init__(self, settings: Settings) -> None:
        self._triton = settings.ai.runtime.triton
        self._settings = settings.ai.models
        self.capabilities: frozenset[Task] = self._settings.tasks
        self._pair: WhisperPair | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and compare each model with its contract, now and whenever Triton was restarted."""
        self._client = TritonClient(self._triton.grpc_address)
        self._client.start()
        self._pool = SharedMemoryPool(self._client, enabled=self._triton.shared_memory != "off")
        self._revival = Revival(self._client, time_limit=self._triton.timeout)
        self._models = TritonModels(self._client, self._revival, self._settings)
        inference = Inference(self._client, self._pool, self._revival)
        self._audio_models = AudioModels(self._models, inference, self._settings)
        if self._settings.asr.decoder_path is not None:
            self._pair = WhisperPair(self._models, inference, self._settings.asr)
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
        """What Triton says of itself and of its models, and how those differ from the settings."""
        try:
            problems = await self._models.problems()
        except ServiceError as error:
            return Readiness(False, [str(error)])
        if self._pair is not None and Task.ASR in self.capabilities:
            problems += self._pair.problems()
        return Readiness(not problems, problems)

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Load the task's models where Triton allows it, and run each once on a second of silence."""
        settings = self._settings.for_task(task)
        silence = Audio(np.zeros(mel.SAMPLE_RATE, dtype=np.int16), mel.SAMPLE_RATE)
        reason = None
        try:
            await self._models.load_missing(task, self._triton.timeout)
            match task:
                case Task.ASR:
                    await self.transcribe(silence, TranscribeOptions(), call)
                case Task.EMOTION:
                    await self.emotion_of_audio(silence, call)
                case Task.SYNTHESIS:
                    await self.detect_synthesis(silence, call)
        except ServiceError as error:
            reason = str(error)
        return ModelStatus(settings.model_name, reason is None, settings.model_path, reason)

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text, through one model or through Whisper's encoder and decoder."""
        return await (self._pair or self._audio_models).transcribe(audio, options, call)

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion, from the model's logits."""
        return await self._audio_models.emotion_of_audio(audio, call)

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text. Raises Unsupported where no model for it is configured."""
        return await self._audio_models.emotion_of_text(text, call)

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic."""
        return await self._audio_models.detect_synthesis(audio, call)

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
        """Attach the shared memory, compare every model with its contract, and log what is wrong."""
        self._models.forget()
        try:
            await self._pool.attach()
        except ServiceError as error:
            _log.warning("%s", error)
            return
        for problem in (await self.readiness()).problems:
            _log.error("%s", problem)
