"""Speech recognition with Whisper's encoder and decoder as two models in Triton."""

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from math import exp

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from inference_service.audio import Audio, mel
from inference_service.errors import BadRequest, NotReady, RuntimeFailed
from inference_service.runtimes.base import Call, refuse_options
from inference_service.runtimes.triton import whisper_decoding
from inference_service.runtimes.triton.contract import mel_bands
from inference_service.runtimes.triton.inference import Inference, TensorSlot, time_limit
from inference_service.runtimes.triton.models import TritonModels
from inference_service.runtimes.triton.tokenizer import Tokenizer, load_tokenizer
from inference_service.settings import AsrModelSettings
from inference_service.tasks import DetailedTranscript, TranscribeOptions, Transcript


class WhisperPair:
    """Runs the encoder once for each window of 30 s and the decoder once for each token."""

    def __init__(self, models: TritonModels, inference: Inference, asr: AsrModelSettings) -> None:
        self._models = models
        self._inference = inference
        self._asr = asr
        self._loaded: tuple[Tokenizer, whisper_decoding.Suppressed] | None = None

    def problems(self) -> list[str]:
        """What is wrong with the tokenizer's files."""
        try:
            self._vocabulary()
        except NotReady as error:
            return [str(error)]
        return []

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        """Speech to text, window by window."""
        tokenizer, suppressed = self._vocabulary()
        heeded = ("languages", "translate") if tokenizer.can_translate else ("languages",)
        refuse_options(options, f"the model {self._asr.model_name}", heeded)
        language = whisper_decoding.check_language(options.language, tokenizer)
        possible = [
            code for each in options.languages if (code := whisper_decoding.check_language(each, tokenizer))
        ]
        waveform = await asyncio.to_thread(audio.waveform, mel.SAMPLE_RATE)
        texts: list[str] = []
        logprobs: list[float] = []
        rejected: list[float] = []
        for start, end in whisper_decoding.windows(waveform):
            window = waveform[start:end]
            if whisper_decoding.is_silent(window):
                continue
            states = await self._encode(window, call)
            async with self._slot(states) as slot:
                next_logits = partial(self._next_logits, slot, states.shape, call)
                if language is None:
                    language = await whisper_decoding.detect_language(next_logits, tokenizer, possible)
                decoded = await whisper_decoding.decode_greedily(
                    next_logits,
                    tokenizer.start(language, translate=options.translate),
                    tokenizer,
                    suppressed,
                )
            if text := whisper_decoding.text_of(decoded, tokenizer):
                texts.append(text)
                logprobs += decoded.logprobs
            else:
                rejected += decoded.logprobs
        transcript = Transcript(
            text=" ".join(texts),
            confidence=_confidence(logprobs, rejected),
            language=language or ("en" if not tokenizer.languages else ""),
            duration_ms=audio.duration_ms,
        )
        return DetailedTranscript(transcript)

    def _vocabulary(self) -> tuple[Tokenizer, whisper_decoding.Suppressed]:
        if self._loaded is None:
            if self._asr.tokenizer_path is None:
                raise NotReady("ai.models.asr.tokenizer_path: needed with decoder_path")
            try:
                tokenizer = load_tokenizer(self._asr.tokenizer_path, self._asr.special_tokens_path)
                self._loaded = tokenizer, whisper_decoding.load_suppressed(self._asr.config_path, tokenizer)
            except RuntimeFailed as error:
                raise NotReady(str(error)) from error  # another node may have the files
        return self._loaded

    def _slot(self, values: NDArray[np.float32]) -> AbstractAsyncContextManager[TensorSlot]:
        write = partial(np.copyto, src=values.reshape(-1))
        return self._inference.slot(values.size, write, longest=self._asr.timeout)

    async def _encode(self, window: NDArray[np.float32], call: Call) -> NDArray[np.float32]:
        """Encoder states [1, 1500, d] of at most 30 s of a waveform."""
        asr = self._asr
        interface = (await self._models.get(asr.model_name)).interface
        bands = mel_bands(interface.inputs[asr.input_name])
        features = await asyncio.to_thread(mel.window_log_mel, window, bands)
        request = pb.ModelInferRequest(model_name=asr.model_name, id=call.request_id)
        async with self._slot(features) as slot:
            slot.add_to(request, asr.input_name, (1, *features.shape))
            answer = await self._inference.run(request, slot, time_limit(asr, call))
        states = answer.floats(asr.output_names[0])
        if len(states) % (mel.WINDOW_FRAMES // 2):
            raise RuntimeFailed(
                f"model {asr.model_name}: output {asr.output_names[0]!r} has {len(states)} values, "
                f"not a multiple of {mel.WINDOW_FRAMES // 2}"
            )
        return states.reshape(1, mel.WINDOW_FRAMES // 2, -1)

    async def _next_logits(
        self, states: TensorSlot, shape: tuple[int, ...], call: Call, tokens: list[int]
    ) -> NDArray[np.float32]:
        asr = self._asr
        decoder = asr.decoder_path or ""
        await self._models.get(decoder)
        tokens_name, states_name = asr.decoder_input_names
        request = pb.ModelInferRequest(model_name=decoder, id=call.request_id)
        request.inputs.add(name=tokens_name, datatype="INT64", shape=(1, len(tokens)))
        request.raw_input_contents.append(np.array(tokens, dtype="<i8").tobytes())
        states.add_to(request, states_name, shape)
        try:
            answer = await self._inference.run(request, states, time_limit(asr, call))
        except BadRequest as error:
            raise RuntimeFailed(str(error)) from error  # the client did not send these tokens
        return answer.last_row(asr.decoder_output_names[0])


def _confidence(logprobs: list[float], rejected: list[float]) -> float:
    """The tokens' mean probability; without a text, how improbable the rejected tokens were."""
    if logprobs:
        return exp(sum(logprobs) / len(logprobs))
    if rejected:
        return 1.0 - exp(sum(rejected) / len(rejected))
    return 1.0  # the audio was measured to be silent
