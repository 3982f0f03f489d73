"""Whisper in CTranslate2: each method is one call for a whole batch of windows.

What to try and when to go on is decided in `recogniser.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import ctranslate2
import numpy as np
from device import Device
from faster_whisper import WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens
from options import Options
from passes import Hypothesis
from windows import WINDOW_S

# Hypotheses that are sampled at a temperature above 0, of which the best is taken.
BEST_OF = 5

_PREPENDED = "\"'“¿([{-"
_APPENDED = "\"'.。,，!！?？:：”)]}、"


class WhisperEngine:
    """A loaded Whisper model. Methods may be called from several threads."""

    def __init__(self, weights: Path, device: Device, *, beam_size: int) -> None:
        self._beam_size = beam_size
        # On a CPU a window alone fits the caches: four together take up to half as long again each.
        self._one_by_one = device.name == "cpu"
        self._model = WhisperModel(
            str(weights),
            device=device.name,
            device_index=list(device.indices),
            compute_type=device.compute_type,
            cpu_threads=device.threads,
            # Of one device; CTranslate2 has a thread for each worker.
            num_workers=device.workers,
            local_files_only=True,
        )
        tokenizer = self._tokenizer("en", "transcribe")
        self._suppressed = list(get_suppressed_tokens(tokenizer, [-1]))

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages that the weights know."""
        if not self._model.model.is_multilingual:
            return ["en"]
        vocabulary = self._model.hf_tokenizer
        return [code for code in self._model.supported_languages if vocabulary.token_to_id(f"<|{code}|>")]

    def encode(self, windows: Sequence[np.ndarray], seconds: float = WINDOW_S) -> ctranslate2.StorageView:
        """Encode windows of at most `seconds` of mono 16 kHz audio, padded with silence to so much."""
        # 10 ms each; the encoder takes two at once.
        frames = 2 * int(seconds * 50)
        features = [
            pad_or_trim(self._model.feature_extractor(window)[..., :-1], frames).astype(np.float32)
            for window in windows
        ]
        if self._one_by_one and len(features) > 1:
            encoded = [np.array(self._model.encode(each[None])) for each in features]
            return ctranslate2.StorageView.from_array(np.concatenate(encoded))
        return self._model.encode(np.stack(features))

    def gather(self, encoded: Sequence[tuple[ctranslate2.StorageView, int]]) -> ctranslate2.StorageView:
        """Some windows of encoded batches, each named by its batch and its number in it, as one batch."""
        first = encoded[0][0]
        if [number for _, number in encoded] == list(range(first.shape[0])) and all(
            batch is first for batch, _ in encoded
        ):
            return first
        rows = [np.array(batch.to_device(ctranslate2.Device.cpu))[number] for batch, number in encoded]
        return ctranslate2.StorageView.from_array(np.stack(rows))

    def detect_languages(self, encoded: ctranslate2.StorageView) -> list[dict[str, float]]:
        """The probability of each language, by code, for each window."""
        return [
            {token[2:-2]: probability for token, probability in probable}
            for probable in self._model.model.detect_language(encoded)
        ]

    def prompt(self, options: Options, language: str) -> list[int]:
        """The tokens that the decoder starts from."""
        tokenizer = self._tokenizer(language, options.task)
        # Half of Whisper's context is for the text.
        room = self._model.max_length // 2 - 1
        before = tokenizer.encode(" " + options.hotwords.strip())[: room // 2] if options.hotwords else []
        if options.prompt:
            # The end of earlier text says most about what follows.
            before += tokenizer.encode(" " + options.prompt.strip())[-(room - len(before)) :]
        start = [tokenizer.sot_prev, *before] if before else []
        # Timestamp tokens cost accuracy: with them, short sentences beside a pause get lost.
        return [*start, *tokenizer.sot_sequence, tokenizer.no_timestamps]

    def generate(
        self,
        encoded: ctranslate2.StorageView,
        prompts: Sequence[list[int]],
        temperature: float,
        most_tokens: int,
    ) -> list[Hypothesis]:
        """Decode a batch, up to `most_tokens` of text. The prompts have one length.

        `temperature` 0: beam search, else sampling."""
        search = (
            {"beam_size": self._beam_size}
            if temperature == 0
            else {
                "beam_size": 1,
                "num_hypotheses": BEST_OF,
                "sampling_topk": 0,
                "sampling_temperature": temperature,
            }
        )
        # CTranslate2 generates up to half of `max_length`, or what the prompt leaves of it.
        room = min(self._model.max_length // 2, self._model.max_length - len(prompts[0]), most_tokens)
        limit = min(self._model.max_length, max(2 * room, room + len(prompts[0])))
        results = self._model.model.generate(
            encoded,
            list(prompts),
            max_length=limit,
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=self._suppressed,
            **search,
        )
        hypotheses = []
        for result in results:
            tokens = result.sequences_ids[0]
            # The score is the mean over the tokens without the end of text.
            logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
            sampled = sum(len(sequence) for sequence in result.sequences_ids)
            hypotheses.append(
                Hypothesis(tokens, logprob, result.no_speech_prob, len(tokens) >= room, sampled)
            )
        return hypotheses

    def text(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return self._tokenizer("en", "transcribe").decode(list(tokens))

    def word_starts(
        self, encoded: ctranslate2.StorageView, tokens: list[int], seconds: float, language: str
    ) -> list[tuple[int, float]]:
        """For each word of the one window's `tokens`: index of its first token, and its start in seconds."""
        tokenizer = self._tokenizer(language, "transcribe")
        (words,) = self._model.find_alignment(tokenizer, [tokens], encoded, [self._frames(seconds)])
        starts, index = [], 0
        for word in words:
            starts.append((index, float(word["start"])))
            index += len(word["tokens"])
        return starts

    def words(
        self,
        encoded: ctranslate2.StorageView,
        tokens: Sequence[list[int]],
        seconds: Sequence[float],
        language: str,
    ) -> list[list[dict]]:
        """The words of windows in one language, as dicts with `word`, `start`, `end` (in the window) and
        `probability`; faster-whisper's rules bound the words beside pauses."""
        segments = [
            [{"tokens": each, "seek": 0, "start": 0.0, "end": length}]
            for each, length in zip(tokens, seconds, strict=True)
        ]
        self._model.add_word_timestamps(
            segments,
            self._tokenizer(language, "transcribe"),
            encoded,
            [self._frames(length) for length in seconds],
            _PREPENDED,
            _APPENDED,
            0.0,
        )
        return [segment[0].get("words", []) for segment in segments]

    def _frames(self, seconds: float) -> int:
        return max(2, int(np.ceil(seconds * self._model.frames_per_second)))

    def _tokenizer(self, language: str, task: str) -> Tokenizer:
        return Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task=task, language=language
        )
