"""Tasks that one model does in one inference, on a waveform or its log-mel spectrogram, or on a text."""

from __future__ import annotations

import json
from math import exp

import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.audio import Audio, mel
from inference_service.errors import RuntimeFailed, Unsupported
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton.inference import (
    Answer,
    Inference,
    TensorSlot,
    add_text,
    in_thread,
    time_limit,
)
from inference_service.runtimes.triton.models import TritonModels
from inference_service.settings import ModelSettings, ModelsSettings
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    Segment,
    SynthesisResult,
    TranscribeOptions,
    Transcript,
)

#: Samples up to which a conversion is done in the event loop (30 s of mono in 0.15 ms), not in a thread.
_QUICK_SAMPLES = 1_000_000

_SEGMENTS = msgspec.json.Decoder(list[Segment])


class AudioModels:
    """Runs the configured models."""

    def __init__(self, models: TritonModels, inference: Inference, settings: ModelsSettings) -> None:
        self._models = models
        self._inference = inference
        self._settings = settings

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text."""
        asr = self._settings.asr
        texts: dict[str, str] = {}
        if options.language:
            texts["language"] = options.language
        extras = {
            key: value
            for key, value in (
                ("word_timestamps", options.word_timestamps),
                ("prompt", options.prompt),
                ("temperature", options.temperature),
            )
            if value
        }
        if extras:
            texts["options"] = json.dumps(extras)
        answer = await self._infer(asr, audio, call, texts)
        text, confidence, language, segments = _asr_outputs(asr.output_names)
        transcript = Transcript(
            text=answer.text(text),
            confidence=answer.probability(confidence),
            language=answer.text(language),
            duration_ms=audio.duration_ms,
        )
        return DetailedTranscript(transcript, _segments(answer, segments))

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion."""
        emotion = self._settings.emotion
        answer = await self._infer(emotion, audio, call)
        return await self._emotion(emotion.model_name, answer, audio.duration_ms)

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
        return await self._emotion(name, answer, 0)

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic: it is where the model's probability is over 0.5."""
        synthesis = self._settings.synthesis
        answer = await self._infer(synthesis, audio, call)
        score = answer.probability(synthesis.output_names[0])
        return SynthesisResult(
            is_synthetic=score > 0.5,
            confidence=max(score, 1.0 - score),
            score=score,
            duration_ms=audio.duration_ms,
        )

    async def _infer(
        self, model: ModelSettings, audio: Audio, call: Call, texts: dict[str, str] | None = None
    ) -> Answer:
        """Run `model` on the audio as its `input_type` wants it, with those of `texts` that it takes."""
        interface = (await self._models.get(model.model_name)).interface
        request = pb.ModelInferRequest(model_name=model.model_name, id=call.request_id)
        for name, text in (texts or {}).items():
            if name in interface.inputs:
                add_text(request, name, interface.shape_to_send(name, (1,)), text)
        direct = model.input_type == "waveform" and not audio.needs_resampling(model.sample_rate)
        if direct:
            shape: tuple[int, ...] = (audio.frames,)
        else:
            features = await in_thread(lambda: _features(audio, model))
            shape = features.shape
        count = int(np.prod(shape)) if len(shape) > 1 else shape[0]
        async with self._inference.slot(count, longest=model.timeout) as slot:
            if direct:
                await _write(audio, slot)
            else:
                np.copyto(slot.array, features.reshape(-1))
            slot.add_to(request, model.input_name, interface.shape_to_send(model.input_name, shape))
            return await self._inference.run(request, slot, time_limit(model, call))

    async def _emotion(self, model: str, answer: Answer, duration_ms: int) -> EmotionResult:
        logits = answer.floats(self._settings.emotion.output_names[0])
        labels = (await self._models.get(model)).labels
        if len(labels) != len(logits):
            raise RuntimeFailed(f"model {model}: {len(logits)} logits for {len(labels)} labels")
        values = logits.tolist()
        top = max(values)
        powers = [exp(value - top) for value in values]
        total = sum(powers)
        scores = [power / total for power in powers]
        best = values.index(top)
        return EmotionResult(
            emotion=labels[best],
            confidence=scores[best],
            emotions=dict(zip(labels, scores, strict=True)),
            duration_ms=duration_ms,
        )


def _asr_outputs(names: list[str]) -> tuple[str, str, str, str | None]:
    """The names of text, confidence, language and segments, in the order of `output_names`."""
    if len(names) < 3:
        raise RuntimeFailed(
            f"ai.models.asr.output_names: {names} is too short; text, confidence and language are needed"
        )
    return names[0], names[1], names[2], names[3] if len(names) > 3 else None


def _segments(answer: Answer, name: str | None) -> list[Segment]:
    if name is None or not answer.has(name):
        return []
    try:
        return _SEGMENTS.decode(answer.text(name))
    except msgspec.DecodeError as error:
        raise RuntimeFailed(f"output {name!r}: {error}") from error


def _features(audio: Audio, model: ModelSettings) -> NDArray[np.float32]:
    """The waveform at the model's rate, or its log-mel spectrogram: seconds of audio take milliseconds."""
    if model.input_type == "mel":
        return mel.log_mel(audio.waveform(mel.SAMPLE_RATE))
    return audio.waveform(model.sample_rate)


async def _write(audio: Audio, slot: TensorSlot) -> None:
    if audio.samples.size <= _QUICK_SAMPLES:
        audio.write_into(slot.array)
    else:
        await in_thread(lambda: audio.write_into(slot.array))
