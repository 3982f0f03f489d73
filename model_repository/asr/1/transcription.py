"""From decoded windows to what a request is answered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from passes import Part, Speech
from windows import SAMPLE_RATE, Window

# ISO 639: the language of audio in which nobody speaks, unless one was asked for.
UNDETERMINED = "und"

_SENTENCE_END = (".", "!", "?", "。", "！", "？", "।", "።", "။", "։", "؟")


@dataclass(frozen=True)
class Transcription:
    """`confidence`: mean probability of a token, in [0, 1], windows weighted by their length; 0 without text.
    `segments`: dicts with the fields of the service's `tasks.Segment`."""

    text: str
    confidence: float
    language: str
    segments: list[dict]


def transcription(
    windows: Sequence[Window], decoded: Sequence[Speech], language: str | None
) -> Transcription:
    """Join the windows of a request, each with what was decoded of it."""
    parts = [
        (window, part)
        for window, speech in zip(windows, decoded, strict=True)
        for part in speech.parts
        if part.text
    ]
    segments = [segment for window, part in parts for segment in _segments(window, part)]
    return Transcription(
        text=" ".join(part.text for _, part in parts),
        confidence=_confidence([part for _, part in parts]),
        language=language or UNDETERMINED,
        segments=[{"id": number, **segment} for number, segment in enumerate(segments)],
    )


def _confidence(parts: Sequence[Part]) -> float:
    seconds = sum(part.seconds for part in parts)
    if seconds <= 0:
        return 0.0
    return min(1.0, math.exp(sum(part.avg_logprob * part.seconds for part in parts) / seconds))


def _segments(window: Window, part: Part) -> list[dict]:
    """The part from its first speech to its last; cut after each sentence where words have times."""
    common = {"avg_logprob": part.avg_logprob, "no_speech_prob": part.no_speech}
    if not part.words:
        start, end = _spoken(window, part)
        return [{"start": start, "end": end, "text": part.text, **common, "words": None}]
    sentences: list[list[dict]] = [[]]
    for word in part.words:
        sentences[-1].append(_placed(window, part, word))
        if word["word"].rstrip().endswith(_SENTENCE_END):
            sentences.append([])
    return [
        {
            "start": words[0]["start"],
            "end": words[-1]["end"],
            "text": "".join(word["word"] for word in words).strip(),
            **common,
            "words": [{**word, "word": word["word"].strip()} for word in words],
        }
        for words in sentences
        if words
    ]


def _spoken(window: Window, part: Part) -> tuple[float, float]:
    start, end = window.time_in_audio(part.start), window.time_in_audio(part.start + part.seconds)
    inside = [
        (stretch.start / SAMPLE_RATE, stretch.end / SAMPLE_RATE)
        for stretch in window.speech
        if stretch.start < end * SAMPLE_RATE and stretch.end > start * SAMPLE_RATE
    ]
    if inside:
        start, end = max(start, inside[0][0]), min(end, inside[-1][1])
    return round(start, 3), round(end, 3)


def _placed(window: Window, part: Part, word: dict) -> dict:
    return {
        "word": word["word"],
        "start": round(window.time_in_audio(part.start + float(word["start"])), 3),
        "end": round(window.time_in_audio(part.start + float(word["end"])), 3),
        "probability": float(word["probability"]),
    }
