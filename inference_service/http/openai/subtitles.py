"""Subtitles (SubRip and WebVTT) from a transcript's segments and words."""

import html
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference_service.tasks import Segment, Word

#: Limits of a cue that fits on a screen and can be read in time: two lines, six seconds.
_LINE_CHARACTERS = 42
_CUE_CHARACTERS = 2 * _LINE_CHARACTERS
_CUE_SECONDS = 6.0

#: Seconds of silence after which a new cue begins.
_PAUSE_SECONDS = 0.6

_SENTENCE_END = (".", "!", "?", "。", "！", "？", "…")


@dataclass(frozen=True, slots=True)
class Cue:
    """A text to show from `start` to `end`, in seconds from the start of the audio."""

    start: float
    end: float
    text: str


def srt(segments: Sequence[Segment]) -> str:
    """Return the segments as SubRip."""
    return "".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n{_lines(cue.text)}\n\n"
        for number, cue in enumerate(cues(segments), 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """Return the segments as WebVTT."""
    shown = "".join(
        f"{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n{html.escape(_lines(cue.text), quote=False)}\n\n"
        for cue in cues(segments)
    )
    return f"WEBVTT\n\n{shown}"


def cues(segments: Sequence[Segment]) -> list[Cue]:
    """Return the cues in the order of time.

    Segments with words are split between words, so that a cue is shown while its words are spoken. A segment
    without words becomes one cue.
    """
    result: list[Cue] = []
    for segment in segments:
        if segment.words:
            result += [_cue(words) for words in _groups(segment.words)]
        elif segment.text.strip():
            result.append(Cue(segment.start, segment.end, segment.text.strip()))
    return result


def _groups(words: Iterable[Word]) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        if not groups or _ends_before(groups[-1], word):
            groups.append([])
        groups[-1].append(word)
    return groups


def _ends_before(group: Sequence[Word], word: Word) -> bool:
    last = group[-1]
    length = sum(len(shown.word.strip()) + 1 for shown in group) + len(word.word.strip())
    return (
        last.word.rstrip().endswith(_SENTENCE_END)
        or word.start - last.end > _PAUSE_SECONDS
        or word.end - group[0].start > _CUE_SECONDS
        or length > _CUE_CHARACTERS
    )


def _cue(words: Sequence[Word]) -> Cue:
    return Cue(words[0].start, words[-1].end, " ".join(word.word.strip() for word in words))


def _lines(text: str) -> str:
    return "\n".join(textwrap.wrap(text, _LINE_CHARACTERS))


def _time(seconds: float, separator: str) -> str:
    milliseconds = round(1000 * seconds)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{separator}{milliseconds % 1000:03}"
