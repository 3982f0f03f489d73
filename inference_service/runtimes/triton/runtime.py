"""`Runtime` over one Triton server."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from functools import partial
from math import exp

import msgspec
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.audio import Audio, mel
from inference_service.errors import BadRequest, NotReady, RuntimeFailed, ServiceError, Unsupported
from inference_service.runtimes.base import Call, Readiness
from inference_service.runtimes.triton import whisper_decoding
from inference_service.runtimes.triton.client import TritonClient
from inference_service.runtimes.triton.contract import Contract, Interface, contracts, mismatches
from inference_service.runtimes.triton.inference import Answer, Inference, Place, add_text, in_thread
from inference_service.runtimes.triton.labels import find_labels
from inference_service.runtimes.triton.revival import Revival
from inference_service.runtimes.triton.shared_memory import SharedMemoryPool
from inference_service.runtimes.triton.tokenizer import Tokenizer, load_tokenizer
from inference_service.settings import ModelSettings, Settings
from inference_service.tasks import (
    DetailedTranscript,
    EmotionResult,
    ModelStatus,
    Segment,
    SynthesisResult,
    Task,
    TranscribeOptions,
    Transcript,
)

_log = logging.getLogger(__name__)

#: Samples up to which a conversion is done at once (30 s in 0.15 ms); longer ones go to a thread.
_QUICK_FRAMES = 1_000_000

_SEGMENTS = msgspec.json.Decoder(list[Segment])


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """What is known of a model since Triton came up: its tensors, what is wrong with them, its labels."""

    interface: Interface
    problems: tuple[str, ...]
    labels: tuple[str, ...] = ()


class TritonRuntime:
    """Runs the configured models on the Triton server of `settings.ai.runtime.triton`."""

    name = "triton"

    def __init__(self, settings: Settings) -> None:
        self._triton = settings.ai.runtime.triton
        self._models = settings.ai.models
        self.capabilities: frozenset[Task] = self._models.tasks
        self._contracts = contracts(self._models)
        self._labelled = {self._models.emotion.model_name, self._models.emotion.text_model_name}
        self._loaded: dict[str, LoadedModel] = {}
        self._pair: tuple[Tokenizer, whisper_decoding.Suppressed] | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, and check each model against what Triton has; also whenever Triton comes back."""
        self._client = TritonClient(self._triton.grpc_address)
        self._client.start()
        self._pool = SharedMemoryPool(self._client, enabled=self._triton.shared_memory != "off")
        self._revival = Revival(self._client, time_limit=self._triton.timeout)
        self._inference = Inference(self._client, self._pool, self._revival)
        await self._came_up()
        self._watch = asyncio.create_task(self._follow_connection())

    async def close(self) -> None:
        """Give back the shared memory and close the connection."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        await self._revival.close()
        await self._pool.close()
        await self._client.close()

    async def readiness(self) -> Readiness:
        """Triton's own word on itself and on every configured model, and what does not match the settings."""
        try:
            ready, index = await asyncio.gather(self._client.server_ready(), self._client.repository_index())
        except ServiceError as error:
            return Readiness(False, [str(error)])
        # With strict readiness Triton is not ready because of any model, also one that is not ours.
        others = {name: state for name, (state, _) in index.items() if name not in self._contracts}
        problems: list[str] = []
        if not ready and all(state == "READY" for state in others.values()):
            problems.append(f"Triton at {self._client.address} says that it is not ready")
        here = []
        for model in self._contracts:
            state, reason = index.get(model, ("", "it is not in the model repository"))
            if (dead := self._revival.problem(model)) is not None:
                problems.append(dead)
            elif state == "READY":
                here.append(model)
            else:
                self._loaded.pop(model, None)
                problems.append(
                    f"model {model} is not ready: {reason or state.lower() or 'it is not loaded'}"
                )
        for model, loaded in zip(here, await asyncio.gather(*map(self._try_model, here)), strict=True):
            problems += [str(loaded)] if isinstance(loaded, ServiceError) else loaded.problems
            if model == self._models.asr.model_name:
                problems += self._pair_problems()
        return Readiness(not problems, problems)

    async def warm(self, task: Task, call: Call) -> ModelStatus:
        """Load the task's models where Triton allows it, and run each once on a second of silence."""
        settings = self._models.for_task(task)
        silence = Audio(np.zeros(mel.SAMPLE_RATE, dtype=np.int16), mel.SAMPLE_RATE)
        error = None
        try:
            await self._load_missing(task)
            match task:
                case Task.ASR:
                    await self.transcribe(silence, TranscribeOptions(), call)
                case Task.EMOTION:
                    await self.emotion_of_audio(silence, call)
                case Task.SYNTHESIS:
                    await self.detect_synthesis(silence, call)
        except ServiceError as problem:
            error = str(problem)
        return ModelStatus(settings.model_name, error is None, settings.model_path, error)

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text, through the one model or through the encoder and decoder."""
        if self._models.asr.decoder_path is not None:
            return await self._transcribe_with_pair(audio, options, call)
        asr = self._models.asr
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
        answer = await self._infer_audio(asr, audio, call, texts)
        text, confidence, language, segments = _asr_outputs(asr.output_names)
        transcript = Transcript(
            text=answer.text(text),
            confidence=answer.probability(confidence),
            language=answer.text(language),
            duration_ms=audio.duration_ms,
        )
        return DetailedTranscript(transcript, _segments(answer, segments))

    async def emotion_of_audio(self, audio: Audio, call: Call) -> EmotionResult:
        """The speaker's emotion, from the model's logits."""
        emotion = self._models.emotion
        answer = await self._infer_audio(emotion, audio, call)
        return await self._emotion(emotion.model_name, answer, audio.duration_ms)

    async def emotion_of_text(self, text: str, call: Call) -> EmotionResult:
        """The emotion of a text. Raises Unsupported where there is no model for it."""
        emotion = self._models.emotion
        name = emotion.text_model_name
        if name is None:
            raise Unsupported("emotion of text: no model is configured (ai.models.emotion.text_model_name)")
        loaded = await self._model(name)
        request = pb.ModelInferRequest(model_name=name, id=call.request_id)
        add_text(request, "text", loaded.interface.shape_to_send("text", (1,)), text)
        answer = await self._inference.run(request, None, _limit(emotion, call))
        return await self._emotion(name, answer, 0)

    async def detect_synthesis(self, audio: Audio, call: Call) -> SynthesisResult:
        """Whether the speech is synthetic: the model's probability over 0.5, where it cannot tell."""
        synthesis = self._models.synthesis
        answer = await self._infer_audio(synthesis, audio, call)
        score = answer.probability(synthesis.output_names[0])
        return SynthesisResult(
            is_synthetic=score > 0.5,
            confidence=max(score, 1.0 - score),
            score=score,
            duration_ms=audio.duration_ms,
        )

    # Models ---------------------------------------------------------------------------------------------

    async def _follow_connection(self) -> None:
        """Whenever Triton was away and comes back, look at everything anew."""
        while True:
            await self._client.disconnected()
            self._loaded.clear()
            self._revival.forget()
            await self._client.connected()
            _log.info("Triton at %s is back", self._client.address)
            await self._came_up()

    async def _came_up(self) -> None:
        """Look at shared memory and at every model anew, and log what is wrong."""
        self._loaded.clear()
        try:
            await self._pool.attach()
        except ServiceError as error:
            _log.warning("%s", error)
            return
        for problem in (await self.readiness()).problems:
            _log.error("%s", problem)

    async def _model(self, name: str) -> LoadedModel:
        """The model, looked at once since Triton came up. Raises RuntimeFailed when it does not match."""
        loaded = self._loaded.get(name) or await self._inspect(name)
        if loaded.problems:
            raise RuntimeFailed("; ".join(loaded.problems))
        return loaded

    async def _try_model(self, name: str) -> LoadedModel | ServiceError:
        try:
            return self._loaded.get(name) or await self._inspect(name)
        except ServiceError as error:
            return error

    async def _inspect(self, name: str) -> LoadedModel:
        metadata, config = await asyncio.gather(self._client.metadata(name), self._client.config(name))
        interface = Interface.of(metadata, config)
        problems = mismatches(self._contracts[name], interface)
        labels: list[str] = []
        if name in self._labelled:
            try:
                labels = find_labels(name, self._models.emotion.labels_path, config)
            except RuntimeFailed as error:
                problems.append(str(error))
            problems += _label_problems(self._contracts[name], interface, labels)
        self._loaded[name] = LoadedModel(interface, tuple(problems), tuple(labels))
        return self._loaded[name]

    async def _load_missing(self, task: Task) -> None:
        index = await self._client.repository_index()
        for name in self._names(task):
            state, reason = index.get(name, ("", "it is not in the model repository"))
            if state != "READY":
                try:
                    await self._client.load(name, self._triton.timeout)
                except NotReady as error:
                    # Triton loads on request only when told so; its reason for the model says more.
                    raise NotReady(
                        f"model {name} is not ready: {reason}" if reason else str(error)
                    ) from error

    def _names(self, task: Task) -> list[str]:
        """The task's models in Triton."""
        settings = self._models.for_task(task)
        second = {
            Task.ASR: self._models.asr.decoder_path,
            Task.EMOTION: self._models.emotion.text_model_name,
        }.get(task)
        return [settings.model_name, *([second] if second else [])]

    # Inference ------------------------------------------------------------------------------------------

    async def _infer_audio(
        self, model: ModelSettings, audio: Audio, call: Call, texts: dict[str, str] | None = None
    ) -> Answer:
        """Run `model` on the audio as its `input_type` wants it, with those of `texts` that it takes."""
        loaded = self._loaded.get(model.model_name)
        if loaded is None or loaded.problems:
            loaded = await self._model(model.model_name)
        interface = loaded.interface
        request = pb.ModelInferRequest(model_name=model.model_name, id=call.request_id)
        limit = _limit(model, call)
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
        async with self._inference.place(count, longest=model.timeout) as place:
            if direct:
                await _write(audio, place)
            else:
                np.copyto(place.array, features.reshape(-1))
            place.add_to(request, model.input_name, interface.shape_to_send(model.input_name, shape))
            return await self._inference.run(request, place, limit)

    async def _emotion(self, model: str, answer: Answer, duration_ms: int) -> EmotionResult:
        logits = answer.floats(self._models.emotion.output_names[0])
        labels = (self._loaded.get(model) or await self._model(model)).labels
        if len(labels) != len(logits):
            raise RuntimeFailed(f"model {model}: {len(logits)} logits for {len(labels)} labels")
        # A handful of numbers: plain floats are several times faster than arrays.
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

    # Encoder and decoder --------------------------------------------------------------------------------

    def _pair_problems(self) -> list[str]:
        if self._models.asr.decoder_path is None:
            return []
        try:
            self._pair_vocabulary()
        except RuntimeFailed as error:
            return [str(error)]
        return []

    def _pair_vocabulary(self) -> tuple[Tokenizer, whisper_decoding.Suppressed]:
        if self._pair is None:
            asr = self._models.asr
            if asr.tokenizer_path is None:
                raise RuntimeFailed("ai.models.asr.tokenizer_path: needed with decoder_path")
            tokenizer = load_tokenizer(asr.tokenizer_path, asr.special_tokens_path)
            self._pair = tokenizer, whisper_decoding.load_suppressed(asr.config_path, tokenizer)
        return self._pair

    async def _transcribe_with_pair(
        self, audio: Audio, options: TranscribeOptions, call: Call
    ) -> DetailedTranscript:
        tokenizer, suppressed = self._pair_vocabulary()
        language = whisper_decoding.check_language(options.language, tokenizer)
        waveform = await in_thread(lambda: audio.waveform(mel.SAMPLE_RATE))
        texts: list[str] = []
        logprobs: list[float] = []
        disbelieved: list[float] = []
        for start, end in whisper_decoding.windows(waveform):
            window = waveform[start:end]
            if whisper_decoding.is_silent(window):
                continue
            encoded = await self._encode(await in_thread(partial(mel.window_log_mel, window)), call)
            async with self._inference.place(encoded.size, longest=self._models.asr.timeout) as place:
                np.copyto(place.array, encoded.reshape(-1))

                async def next_logits(
                    tokens: list[int], place: Place = place, shape: tuple[int, ...] = encoded.shape
                ) -> NDArray[np.float32]:
                    return await self._next_logits(tokens, place, shape, call)

                if language is None:
                    language = await whisper_decoding.detect_language(next_logits, tokenizer)
                decoded = await whisper_decoding.decode_greedily(
                    next_logits, tokenizer.start(language), tokenizer, suppressed
                )
            if text := whisper_decoding.text_of(decoded, tokenizer):
                texts.append(text)
                logprobs += decoded.logprobs
            else:
                disbelieved += decoded.logprobs
        transcript = Transcript(
            text=" ".join(texts),
            confidence=_confidence(logprobs, disbelieved),
            language=language or ("en" if not tokenizer.languages else ""),
            duration_ms=audio.duration_ms,
        )
        return DetailedTranscript(transcript)

    async def _encode(self, features: NDArray[np.float32], call: Call) -> NDArray[np.float32]:
        """Encoder states [1, 1500, d] of log-mel features [80, 3000]."""
        asr = self._models.asr
        await self._model(asr.model_name)
        request = pb.ModelInferRequest(model_name=asr.model_name, id=call.request_id)
        async with self._inference.place(features.size, longest=asr.timeout) as place:
            np.copyto(place.array, features.reshape(-1))
            place.add_to(request, asr.input_name, (1, *features.shape))
            answer = await self._inference.run(request, place, _limit(asr, call))
        states = answer.floats(asr.output_names[0])
        if len(states) % (mel.WINDOW_FRAMES // 2):
            raise RuntimeFailed(
                f"model {asr.model_name}: output {asr.output_names[0]!r} has {len(states)} values, "
                f"not a multiple of {mel.WINDOW_FRAMES // 2}"
            )
        return states.reshape(1, mel.WINDOW_FRAMES // 2, -1)

    async def _next_logits(
        self, tokens: list[int], encoded: Place, shape: tuple[int, ...], call: Call
    ) -> NDArray[np.float32]:
        asr = self._models.asr
        decoder = asr.decoder_path or ""
        await self._model(decoder)
        tokens_name, encoded_name = asr.decoder_input_names
        request = pb.ModelInferRequest(model_name=decoder, id=call.request_id)
        request.inputs.add(name=tokens_name, datatype="INT64", shape=(1, len(tokens)))
        request.raw_input_contents.append(np.array(tokens, dtype="<i8").tobytes())
        encoded.add_to(request, encoded_name, shape)
        try:
            answer = await self._inference.run(request, encoded, _limit(asr, call))
        except BadRequest as error:
            raise RuntimeFailed(str(error)) from error  # the tokens are ours, not the client's
        return answer.last_row(asr.decoder_output_names[0])


def _confidence(logprobs: list[float], disbelieved: list[float]) -> float:
    """The tokens' mean probability; where nothing was heard, how little there was to hear."""
    if logprobs:
        return exp(sum(logprobs) / len(logprobs))
    if disbelieved:
        return 1.0 - exp(sum(disbelieved) / len(disbelieved))
    return 1.0  # silence was measured, not guessed


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


def _label_problems(contract: Contract, interface: Interface, labels: list[str]) -> list[str]:
    """Whether the number of labels is the number of logits, where the model's shape says it."""
    output = interface.outputs.get(contract.outputs[0].name)
    if not labels or output is None or output.shape[-1] in (-1, len(labels)):
        return []
    return [f"model {contract.model}: {len(labels)} labels for {output.shape[-1]} logits in {output.name!r}"]


def _limit(model: ModelSettings, call: Call) -> float:
    """Seconds that this inference may take."""
    return model.timeout if call.timeout is None else min(model.timeout, call.timeout)


def _features(audio: Audio, model: ModelSettings) -> NDArray[np.float32]:
    """The waveform at the model's rate, or its log-mel spectrogram: seconds of audio take milliseconds."""
    if model.input_type == "mel":
        return mel.log_mel(audio.waveform(mel.SAMPLE_RATE))
    return audio.waveform(model.sample_rate)


async def _write(audio: Audio, place: Place) -> None:
    if audio.frames <= _QUICK_FRAMES:
        audio.write_into(place.array)
    else:
        await in_thread(lambda: audio.write_into(place.array))
