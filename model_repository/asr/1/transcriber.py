"""Speech to text with Whisper, for audio of any length.

A voice activity detector (silero VAD) finds the speech. It is cut into windows that begin and end in pauses,
and Whisper decodes them as a batch. Windows never overlap, and together they contain all speech. Audio
without speech does not go to Whisper, which would invent text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.transcribe import Segment
from faster_whisper.vad import VadOptions, get_speech_timestamps

SAMPLE_RATE = 16000

# Whisper takes 30 s at once. In shorter windows it skips fewer repeated sentences, and the audio around the
# speech of a window helps it with the first and last words. The figures come from trials on band-limited and
# on long recordings.
WINDOW_S = 24.0
SURROUNDINGS_S = 2.0
# A pause longer than this ends a window.
LONGEST_PAUSE_S = 3.0
# Speech without a pause is cut by the VAD at its best guess.
UNBROKEN_SPEECH_S = WINDOW_S - 2 * SURROUNDINGS_S

# ISO 639: the language of audio without speech, unless the request names one.
UNDETERMINED = "und"

# Whisper's own rule for a window without speech: both must hold.
NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOGPROB = -1.0

# More tokens a second than anybody speaks mean that the decoder loops. Sampling at rising temperatures breaks
# the loop.
MAX_TOKENS_PER_SECOND = 12.0
LOOP_TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)

# 50 dB.
MAX_GAIN = 316.0

# Room for the words that a prompt may take of Whisper's context.
MAX_PROMPT_CHARACTERS = 800

_SENTENCE_END = (".", "!", "?", "。", "！", "？")


@dataclass(frozen=True)
class Options:
    """The options of a request. `language`: a code such as `en`, or None to detect it."""

    language: str | None = None
    word_timestamps: bool = False
    prompt: str | None = None
    temperature: float = 0.0


@dataclass(frozen=True)
class Transcription:
    """`confidence`: mean probability of a token, in [0, 1], windows weighted by their length; 0 without text.
    `segments`: dicts with the fields of the service's `tasks.Segment`."""

    text: str
    confidence: float
    language: str
    segments: list[dict]


class Transcriber:
    """A loaded Whisper model. `transcribe` may be called from several threads."""

    def __init__(
        self, weights: Path, *, device: str, compute_type: str, threads: int, workers: int, beam_size: int
    ) -> None:
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"
        if compute_type == "auto":
            compute_type = "float16" if device == "cuda" else "int8"
        self.device = device
        self._beam_size = beam_size
        self._model = WhisperModel(
            str(weights),
            device=device,
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=workers,
            local_files_only=True,
        )

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages that the weights know."""
        return self._model.supported_languages

    def transcribe(self, audio: np.ndarray, options: Options) -> Transcription:
        """Transcribe mono float32 `audio` at 16 kHz, full scale ±1. Raises `ValueError` for a language that
        the weights do not know."""
        language = self._language(options.language)
        audio = _at_speaking_level(audio)
        speech = self._speech(audio)
        found = windows(speech, audio.size)
        if not found:
            return Transcription("", 0.0, language or UNDETERMINED, [])
        # A pipeline keeps state between windows, so every call has its own.
        segments, info = BatchedInferencePipeline(self._model).transcribe(
            audio,
            language=language,
            beam_size=self._beam_size if options.temperature == 0 else 1,
            temperature=options.temperature,
            initial_prompt=options.prompt,
            word_timestamps=options.word_timestamps,
            # Timestamp tokens cost accuracy: with them, short sentences beside a pause get lost.
            without_timestamps=True,
            vad_filter=False,
            clip_timestamps=[
                {"start": start / SAMPLE_RATE, "end": end / SAMPLE_RATE} for start, end in found
            ],
            batch_size=8,
        )
        kept = [
            segment
            for decoded in segments
            for segment in (
                self._redecoded(audio, decoded, info.language, options) if _loops(decoded) else [decoded]
            )
            if segment.text.strip() and not _is_no_speech(segment)
        ]
        return Transcription(
            text=" ".join(segment.text.strip() for segment in kept),
            confidence=_confidence(kept),
            language=info.language,
            segments=_numbered([part for segment in kept for part in _sentences(segment, speech)]),
        )

    def _speech(self, audio: np.ndarray) -> list[tuple[int, int]]:
        """Stretches of speech as (start, end) in samples, in order."""
        vad = VadOptions(
            max_speech_duration_s=UNBROKEN_SPEECH_S, min_silence_duration_ms=160, speech_pad_ms=100
        )
        return [(stretch["start"], stretch["end"]) for stretch in get_speech_timestamps(audio, vad)]

    def _language(self, asked: str | None) -> str | None:
        """The weights' code for the language; None if it is to be detected."""
        if asked is None:
            return None if len(self.languages) > 1 else self.languages[0]
        code = asked.strip().lower().replace("_", "-").split("-")[0]
        if code in ("", "auto"):
            return self._language(None)
        if code not in self.languages:
            raise ValueError(
                f"language: the loaded Whisper model does not know {asked!r}, "
                f"only {', '.join(sorted(self.languages))}"
            )
        return code

    def _redecoded(
        self, audio: np.ndarray, looped: Segment, language: str, options: Options
    ) -> list[Segment]:
        """Decode one window again, with sampling. Returns nothing if every temperature loops."""
        segments, _ = self._model.transcribe(
            audio,
            language=language,
            clip_timestamps=[looped.start, looped.end],
            temperature=[t for t in LOOP_TEMPERATURES if t > options.temperature] or [LOOP_TEMPERATURES[-1]],
            best_of=1,
            initial_prompt=options.prompt,
            word_timestamps=options.word_timestamps,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return [segment for segment in segments if not _loops(segment)]


def windows(speech: Sequence[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Windows (start, end), in samples, over stretches of `speech` in audio of `length` samples.

    Each holds whole stretches, up to `WINDOW_S` with up to `SURROUNDINGS_S` on either side; where two windows
    share a pause, each has half of it.
    """
    longest, surroundings = int(WINDOW_S * SAMPLE_RATE), int(SURROUNDINGS_S * SAMPLE_RATE)
    joined: list[tuple[int, int]] = []
    for start, end in speech:
        if (
            joined
            and start - joined[-1][1] <= LONGEST_PAUSE_S * SAMPLE_RATE
            and end - joined[-1][0] + 2 * surroundings <= longest
        ):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    found = []
    for number, (start, end) in enumerate(joined):
        earliest = (joined[number - 1][1] + start) // 2 if number else 0
        latest = (end + joined[number + 1][0]) // 2 if number + 1 < len(joined) else length
        found.append((max(earliest, start - surroundings), min(latest, end + surroundings)))
    return found


def _at_speaking_level(audio: np.ndarray) -> np.ndarray:
    """Scaled to a peak near full scale, by at most `MAX_GAIN`: the VAD misses speech that is very quiet."""
    peak = float(np.abs(audio).max())
    return audio * min(MAX_GAIN, 0.9 / peak) if peak > 0 else audio


def _loops(segment: Segment) -> bool:
    return len(segment.tokens) > 10 + MAX_TOKENS_PER_SECOND * (segment.end - segment.start)


def _is_no_speech(segment: Segment) -> bool:
    return segment.no_speech_prob > NO_SPEECH_PROBABILITY and segment.avg_logprob < NO_SPEECH_LOGPROB


def _confidence(segments: Sequence[Segment]) -> float:
    seconds = sum(segment.end - segment.start for segment in segments)
    if seconds <= 0:
        return 0.0
    mean = sum(segment.avg_logprob * (segment.end - segment.start) for segment in segments) / seconds
    return min(1.0, math.exp(mean))


def _sentences(segment: Segment, speech: Sequence[tuple[int, int]]) -> list[dict]:
    """The window from its first speech to its last; cut after each sentence if words have times."""
    common = {"avg_logprob": segment.avg_logprob, "no_speech_prob": segment.no_speech_prob}
    if not segment.words:
        inside = [
            (start / SAMPLE_RATE, end / SAMPLE_RATE)
            for start, end in speech
            if start < segment.end * SAMPLE_RATE and end > segment.start * SAMPLE_RATE
        ]
        return [
            {
                "start": round(max(segment.start, inside[0][0]), 3),
                "end": round(min(segment.end, inside[-1][1]), 3),
                "text": segment.text.strip(),
                **common,
                "words": None,
            }
        ]
    sentences: list[list] = [[]]
    for word in segment.words:
        sentences[-1].append(word)
        if word.word.rstrip().endswith(_SENTENCE_END):
            sentences.append([])
    return [
        {
            "start": words[0].start,
            "end": words[-1].end,
            "text": "".join(word.word for word in words).strip(),
            **common,
            "words": [
                {
                    "word": word.word.strip(),
                    "start": word.start,
                    "end": word.end,
                    "probability": word.probability,
                }
                for word in words
            ],
        }
        for words in sentences
        if words
    ]


def _numbered(segments: list[dict]) -> list[dict]:
    return [{"id": number, **segment} for number, segment in enumerate(segments)]
