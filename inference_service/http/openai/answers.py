"""The answers of OpenAI's audio API: their types, and how a transcript becomes one."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from inference_service.audio import Audio
from inference_service.errors import Unsupported
from inference_service.http.openai import subtitles
from inference_service.http.openai.form import TranscriptionRequest
from inference_service.languages import english_name
from inference_service.tasks import (
    UNDETERMINED,
    DetailedTranscript,
    ModelKind,
    Segment,
    Transcript,
    Word,
)


class Usage(msgspec.Struct, frozen=True, tag_field="type", tag="duration"):
    """What the request used: the length of the audio."""

    seconds: float


class Language(msgspec.Struct, frozen=True):
    """A language that was heard, by its code."""

    code: str


class Transcription(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer for `json`, with the text, its languages and the usage, and for `verbose_json`. Times in
    seconds.
    """

    text: str
    usage: Usage | None = None
    languages: list[Language] | None = None
    task: Literal["transcribe", "translate"] | None = None
    language: str | None = None  # in English, as "french"
    duration: float | None = None
    words: list[TranscriptionWord] | None = None
    segments: list[TranscriptionSegment] | None = None


class TranscriptionWord(msgspec.Struct, frozen=True):
    """A word and its times in seconds."""

    word: str
    start: float
    end: float


class TranscriptionSegment(msgspec.Struct, frozen=True):
    """A segment with Whisper's fields. `tokens` is empty: runtimes return words, not tokens."""

    id: int
    seek: Annotated[int, msgspec.Meta(description="In frames of 10 ms")]
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class Model(msgspec.Struct, frozen=True, omit_defaults=True):
    """A name under which speech recognition is available.

    Beside OpenAI's fields it has what the model says of itself: its kind, its content hash as `version`, its
    languages and its licence.
    """

    id: str
    created: int  # Unix seconds
    object: Literal["model"]
    owned_by: str
    kind: ModelKind = ModelKind.UNKNOWN
    version: str | None = None
    languages: list[str] | None = None
    licence: str | None = None


class ModelList(msgspec.Struct, frozen=True):
    """The answer to GET /v1/models."""

    data: list[Model]
    object: Literal["list"] = "list"


def body(heard: DetailedTranscript, audio: Audio, request: TranscriptionRequest) -> bytes:
    """Return the transcript of `audio` in the format that the request asks for.

    Raises Unsupported if the format needs times that the runtime does not give.
    """
    text = heard.transcript.text
    match request.format:
        case "json":
            return msgspec.json.encode(
                Transcription(text, usage(audio), languages=languages([heard.transcript]))
            )
        case "text":
            return f"{text}\n".encode()
        case "verbose_json":
            return msgspec.json.encode(_verbose(heard, audio, request))
        case "srt":
            return subtitles.srt(_timed(heard)).encode()
        case "vtt":
            return subtitles.vtt(_timed(heard)).encode()


def usage(audio: Audio) -> Usage:
    """What recognising `audio` used."""
    return Usage(round(audio.seconds, 3))


def languages(heard: Iterable[Transcript]) -> list[Language]:
    """The languages of transcripts with a text, each once."""
    spoken = [part.language for part in heard if part.text and part.language != UNDETERMINED]
    return [Language(code) for code in dict.fromkeys(spoken)]


def _timed(heard: DetailedTranscript) -> list[Segment]:
    if heard.transcript.text and not heard.segments:
        raise Unsupported("this node's runtime gives no times of words; ask for json or text")
    return heard.segments


def _verbose(heard: DetailedTranscript, audio: Audio, request: TranscriptionRequest) -> Transcription:
    segments = _timed(heard)
    return Transcription(
        text=heard.transcript.text,
        usage=usage(audio),
        task="translate" if request.options.translate else "transcribe",
        # Of the text.
        language="english" if request.options.translate else english_name(heard.transcript.language),
        duration=round(audio.seconds, 3),
        words=[_word(word) for segment in segments for word in _words(segment)]
        if "word" in request.granularities
        else None,
        segments=[_segment(segment, request.options.temperature) for segment in segments]
        if "segment" in request.granularities
        else None,
    )


def _words(segment: Segment) -> list[Word]:
    if segment.words is None:
        raise Unsupported("this node's runtime gives no times of words; ask for segments")
    return segment.words


def _word(word: Word) -> TranscriptionWord:
    return TranscriptionWord(word.word.strip(), round(word.start, 3), round(word.end, 3))


def _segment(segment: Segment, temperature: float) -> TranscriptionSegment:
    spelled = segment.text.encode("utf-8")
    return TranscriptionSegment(
        id=segment.id,
        seek=round(100 * segment.start),
        start=round(segment.start, 3),
        end=round(segment.end, 3),
        text=segment.text,
        tokens=[],
        temperature=temperature,
        avg_logprob=segment.avg_logprob,
        compression_ratio=len(spelled) / len(zlib.compress(spelled)),
        no_speech_prob=segment.no_speech_prob,
    )
