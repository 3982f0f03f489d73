"""Recognises a piece of a stream together with the audio around it.

A recogniser understands a few seconds alone worse than the same seconds inside a longer recording, and at a
cut outside a pause it misrecognises a word on either side. So it gets the piece with audio before and after
it, and the piece owns the words whose middle is in it. In longer audio recognisers skip a sentence now and
then. The sound without words reveals that, and the piece is then recognised alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, takewhile
from math import inf
from time import monotonic

import msgspec

from inference_service.audio import Audio
from inference_service.audio.mono import Waveform
from inference_service.engine import Engine
from inference_service.runtimes.base import Call
from inference_service.streaming.buffer import Piece
from inference_service.streaming.decoder import STREAM_RATE
from inference_service.streaming.pace import Pace
from inference_service.tasks import DetailedTranscript, Segment, TranscribeOptions, Transcript, Word
from inference_service.word_times import on_the_sound, passed_over

#: Seconds of sound without a word in a piece that mean a skipped sentence. Breath and the ends of words are
#: mostly shorter.
_PASSED_OVER = 0.8

#: A piece is recognised with its surroundings while that takes at most this fraction of its own length. A
#: slower node has too many streams: it recognises every piece alone, at about half the cost.
_MOST_TIME = 0.3
_COST_OF_SURROUNDINGS = 2.0

#: The longest distance in seconds from the border between two pieces' words to the cut between their samples.
_MOST_SHIFT = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """The transcript of a piece. `is_complete`: there is no long sound without words.

    `next_border` is the `border` of the next piece.
    """

    transcript: Transcript
    next_border: float = 0.0
    is_complete: bool = True


class Recogniser:
    """Recognises speech for the streams of one entrance."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.pace = Pace()
        self._words_have_times = True  # until an answer shows that this runtime does not report them
        self._time_around = 0.0  # the last piece's time with surroundings, as a fraction of its length

    async def transcribe(self, piece: Piece, options: TranscribeOptions, call: Call) -> Heard:
        """The transcript of a piece that has its final result.

        Raises what `Engine.transcribe` raises.
        """
        around = await self._heard_around(piece, options, call)
        if around is not None and around.is_complete:
            return around
        begun = monotonic()
        detailed = await self._engine.transcribe(Audio(piece.samples, STREAM_RATE), options, call)
        self._note_time(_COST_OF_SURROUNDINGS * (monotonic() - begun), piece)
        alone = Heard(detailed.transcript)
        return alone if around is None else max(alone, around, key=_number_of_words)

    async def draft(
        self, samples: Waveform, options: TranscribeOptions, call: Call, *, first: bool
    ) -> Transcript:
        """A transcript that a later one replaces, of audio that grows, as cheaply as the model can.

        `first`: the stream has no text yet. Raises what `Engine.transcribe` raises.
        """
        async with self.pace.place(first=first):
            audio = Audio(samples, STREAM_RATE)
            return (await self._engine.transcribe(audio, replace(options, draft=True), call)).transcript

    async def _heard_around(self, piece: Piece, options: TranscribeOptions, call: Call) -> Heard | None:
        if not self._words_have_times or self._time_around > _MOST_TIME:
            return None
        begun = monotonic()
        detailed = await self._engine.transcribe(
            Audio(piece.window, STREAM_RATE), replace(options, word_timestamps=True), call
        )
        self._note_time(monotonic() - begun, piece)
        self._words_have_times = _has_word_times(detailed)
        return _part(detailed, piece) if self._words_have_times else None

    def _note_time(self, seconds: float, piece: Piece) -> None:
        if piece.after:  # the last piece of a stream may be short, and nothing waits for it
            self._time_around = seconds * STREAM_RATE / len(piece.samples)


def _has_word_times(detailed: DetailedTranscript) -> bool:
    if detailed.transcript.text and not detailed.segments:
        return False
    return all(segment.words is not None for segment in detailed.segments)


def _part(detailed: DetailedTranscript, piece: Piece) -> Heard:
    """The part of the window's transcript that belongs to the piece."""
    segments = on_the_sound(detailed.segments, piece.window, STREAM_RATE)
    cut = (len(piece.window) - piece.after) / STREAM_RATE
    begin = piece.before / STREAM_RATE + piece.border if piece.before else -inf
    end = cut if piece.after else inf
    texts: list[str] = []
    words: list[Word] = []
    for segment in segments:
        after_begin = dropwhile(lambda word: _middle(word) <= begin, segment.words or ())
        own = list(takewhile(lambda word: _middle(word) <= end, after_begin))
        if own:
            texts.append(_text_of(own, segment))
            words += own
    transcript = msgspec.structs.replace(
        detailed.transcript,
        text=" ".join(texts),
        confidence=sum(word.probability for word in words) / len(words) if words else 0.0,
        duration_ms=Audio(piece.samples, STREAM_RATE).duration_ms,
    )
    silent = passed_over(segments, piece.window, STREAM_RATE, piece.before / STREAM_RATE, cut)
    return Heard(transcript, _border(words, segments, cut) - cut, silent < _PASSED_OVER)


def _number_of_words(heard: Heard) -> int:
    return len(heard.transcript.text.split())


def _border(words: Sequence[Word], segments: Sequence[Segment], cut: float) -> float:
    """The middle between the piece's last word and the next piece's first, in seconds of the window, like
    `cut`. In the next recognition both words may be a little earlier or later, and each must be counted once.
    """
    later = [
        middle for segment in segments for word in segment.words or () if (middle := _middle(word)) > cut
    ]
    if not words or not later:
        return cut
    half_way = (_middle(words[-1]) + later[0]) / 2
    return min(max(half_way, cut - _MOST_SHIFT), cut + _MOST_SHIFT)


def _middle(word: Word) -> float:
    return (word.start + word.end) / 2


def _text_of(own: Sequence[Word], segment: Segment) -> str:
    """These words of a segment as they are written in its text: not every language has blanks between
    words."""
    words = segment.words or []
    if len(own) == len(words):
        return segment.text
    places = []
    position = 0
    for word in words:
        place = segment.text.find(word.word, position)
        if place < 0:
            return " ".join(word.word for word in own)
        places.append(place)
        position = place + len(word.word)
    first, last = words.index(own[0]), words.index(own[-1])
    return segment.text[places[first] : places[last] + len(own[-1].word)]
