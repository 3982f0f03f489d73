"""Every word of a stream is in exactly one final result, wherever the session cuts the stream."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.runtimes.base import Call
from inference_service.settings import Settings
from inference_service.streaming import Chunk, Streaming, StreamResult, recognition
from inference_service.tasks import DetailedTranscript, Segment, TranscribeOptions, Transcript, Word
from tests.service.conftest import DoubleRuntime
from tests.service.streams import pieces, results_of

RATE = 16000
WORD = int(0.3 * RATE)  # samples

#: The level of a word's samples is its number times this.
STEP = 100


class Listener(DoubleRuntime):
    """A test double. Its words are numbers, and it recognises a wrong one if a part of the word is missing.

    The times that it reports are wrong by up to `jitter` seconds, differently each time. `blank` is what its
    language has between words.
    """

    def __init__(self, jitter: float, blank: str = " ") -> None:
        super().__init__()
        self.blank = blank
        self.jitter = jitter
        self.random = np.random.default_rng(0)

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        self.audios.append(audio)
        self.options.append(options)
        levels = np.rint(audio.samples * 32768 / STEP).astype(int)
        edges = np.flatnonzero(np.diff(levels, prepend=0, append=0))
        words = [
            self.word(int(levels[start]), int(start), int(end))
            for start, end in itertools.pairwise(edges)
            if levels[start]
        ]
        sentences = [words[at : at + 4] for at in range(0, len(words), 4)]
        segments = [
            Segment(number, said[0].start, said[-1].end, self.text(said), -0.1, 0.0, said)
            for number, said in enumerate(sentences)
        ]
        transcript = Transcript(self.text(words), 0.9, "en", audio.duration_ms)
        return DetailedTranscript(transcript, segments)

    def word(self, number: int, start: int, end: int) -> Word:
        early, late = self.random.uniform(-self.jitter, self.jitter, 2)
        said = str(number) if end - start == WORD else f"misheard{number}"
        return Word(said, max(0.0, start / RATE + early), end / RATE + late, 0.9)

    def text(self, words: list[Word]) -> str:
        return self.blank.join(word.word for word in words)


def spoken(gaps: list[float]) -> bytes:
    """Words, numbered from 1, with so many seconds of silence before each."""
    sound = [
        part
        for number, gap in enumerate(gaps, 1)
        for part in (np.zeros(int(gap * RATE)), np.full(WORD, number * STEP))
    ]
    return np.concatenate(sound).astype("<i2").tobytes()


def heard(results: list[StreamResult]) -> str:
    texts = (result.data.text for result in results if result.is_final)  # type: ignore[union-attr]
    return " ".join(text for text in texts if text)


Hear = Callable[[Listener, bytes], Awaitable[list[StreamResult]]]


@pytest.fixture
async def hear(settings: Callable[..., Settings]) -> AsyncIterator[Hear]:
    """`await hear(listener, audio)`: the results of a stream of 16 kHz PCM in chunks of 100 ms."""
    async with AsyncExitStack() as stack:

        async def hear(listener: Listener, audio: bytes) -> list[StreamResult]:
            engine = Engine(settings(), listener)
            stack.push_async_callback(engine.close)
            chunks = [Chunk(part, sample_rate=RATE) for part in pieces(audio, RATE // 5)]
            return await results_of(Streaming(engine), chunks)

        yield hear


@pytest.mark.parametrize("longest_gap", [0.03, 0.2, 1.0, 6.0])
@pytest.mark.parametrize("jitter", [0.0, 0.08])
async def test_words_are_neither_cut_nor_lost_nor_heard_twice(
    hear: Hear, longest_gap: float, jitter: float
) -> None:
    random = np.random.default_rng(5)
    gaps = random.uniform(0.0, longest_gap, 200).tolist()
    results = await hear(Listener(jitter), spoken(gaps))

    assert heard(results) == " ".join(str(number) for number in range(1, 201))
    assert len(results) > 5
    length = 1000 * (sum(gaps) + 200 * 0.3)
    assert sum(result.data.duration_ms for result in results) == pytest.approx(length, abs=200)


async def test_a_language_without_blanks_gets_none_inside_a_sentence(hear: Hear) -> None:
    results = await hear(Listener(0.0, blank=""), spoken([0.1] * 60))
    assert heard(results).replace(" ", "") == "".join(str(number) for number in range(1, 61))
    assert heard(results).count(" ") < 60 / 4 + len(results)


async def test_a_short_stream_is_heard_as_it_is(hear: Hear) -> None:
    listener = Listener(0.0)
    assert heard(await hear(listener, spoken([0.5] * 8))) == "1 2 3 4 5 6 7 8"
    assert [options.word_timestamps for options in listener.options] == [False]


async def test_silence_says_nothing(hear: Hear) -> None:
    results = await hear(Listener(0.0), bytes(2 * 25 * RATE))
    assert {(result.data.text, result.data.confidence) for result in results} == {("", 0.0)}  # type: ignore[union-attr]


async def test_a_runtime_without_words_times_is_found_out_once(hear: Hear) -> None:
    class Plain(Listener):
        async def transcribe(self, *asked: object) -> DetailedTranscript:
            found = await super().transcribe(*asked)  # type: ignore[arg-type]
            return DetailedTranscript(found.transcript)

    listener = Plain(0.0)
    results = await hear(listener, spoken([0.7] * 60))
    assert heard(results) == " ".join(str(number) for number in range(1, 61))
    assert [options.word_timestamps for options in listener.options].count(True) == 1


async def test_a_node_that_is_slow_hears_pieces_alone_until_it_is_fast_again(
    hear: Hear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognition, "_MOST_TIME", 0.02)

    class Slow(Listener):
        async def transcribe(
            self, audio: Audio, options: TranscribeOptions, call: Call
        ) -> DetailedTranscript:
            self.delay = 0.3 if len(self.audios) < 2 else 0.0
            await self._work(call)
            return await super().transcribe(audio, options, call)

    listener = Slow(0.0)
    await hear(listener, spoken([0.7] * 60))
    with_surroundings = [options.word_timestamps for options in listener.options]
    assert with_surroundings[:4] == [True, False, False, True]
