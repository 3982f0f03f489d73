"""The transcripts of windows, with times in the recording, and joined to one."""

from collections.abc import Sequence

import msgspec

from inference_service.tasks import DetailedTranscript, Segment, Transcript, Word
from inference_service.windows.cut import Window


def placed(heard: DetailedTranscript, window: Window) -> DetailedTranscript:
    """A window's transcript with its times in the recording, none before the one that precedes it."""
    earliest = window.start

    def moment(seconds: float) -> float:
        nonlocal earliest
        earliest = max(earliest, round(window.time_in_recording(seconds), 3))
        return earliest

    def word(found: Word) -> Word:
        return msgspec.structs.replace(found, start=moment(found.start), end=moment(found.end))

    def segment(found: Segment) -> Segment:
        start = moment(found.start)
        words = None if found.words is None else [word(each) for each in found.words]
        return msgspec.structs.replace(found, start=start, end=moment(found.end), words=words)

    return DetailedTranscript(heard.transcript, [segment(found) for found in heard.segments])


def joined(parts: Sequence[DetailedTranscript], duration_ms: int) -> DetailedTranscript:
    """The transcript of a recording from those of its windows, which are in order and have their places."""
    if len(parts) == 1:
        (only,) = parts
        transcript = msgspec.structs.replace(only.transcript, duration_ms=duration_ms)
        return DetailedTranscript(transcript, only.segments)
    spoken = [part.transcript for part in parts if part.transcript.text]
    transcript = msgspec.structs.replace(
        (spoken or [parts[0].transcript])[0],
        text=" ".join(part.text for part in spoken),
        confidence=_confidence(spoken or [part.transcript for part in parts]),
        duration_ms=duration_ms,
    )
    segments = [found for part in parts for found in part.segments]
    return DetailedTranscript(
        transcript,
        [msgspec.structs.replace(found, id=number) for number, found in enumerate(segments)],
    )


def _confidence(parts: Sequence[Transcript]) -> float | None:
    """The mean, weighted by length. None where the model gives none."""
    known = [(part.confidence, part.duration_ms) for part in parts if part.confidence is not None]
    weight = sum(length for _, length in known)
    return sum(confidence * length for confidence, length in known) / weight if weight else None
