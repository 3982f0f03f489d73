"""Decode a batch of windows, with all that one pass of the decoder may leave undone.

- Live speech is heard in a short context first (`passes.py`).
- The temperature fallback of OpenAI's Whisper and of faster-whisper: a window whose text loops, or is
  improbable, is decoded again, sampled at rising temperatures.
- A window that fills the decoder's room goes on where it stopped: its words are aligned with the audio, and
  what follows the last whole word is decoded next.
- The language of a request that names none is that of its first window that is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from detection import likeliest_languages
from limits import most_tokens
from loops import repetition, without_loop
from options import Options
from passes import Hypothesis, Part, Pass, Speech, short_context
from windows import SAMPLE_RATE, WINDOW_S

# Less than this is not worth a pass of its own, and no progress.
MIN_REMAINDER_S = 0.5


class Engine(Protocol):
    """Whisper; `engine.py` has the real one and says what each method does."""

    def encode(self, windows: Sequence[np.ndarray], seconds: float = ...) -> Any: ...
    def gather(self, encoded: Sequence[tuple[Any, int]]) -> Any: ...
    def detect_languages(self, encoded: Any) -> list[dict[str, float]]: ...
    def prompt(self, options: Options, language: str) -> list[int]: ...
    def generate(
        self, encoded: Any, prompts: Sequence[list[int]], temperature: float, most_tokens: int
    ) -> list[Hypothesis]: ...
    def text(self, tokens: Sequence[int]) -> str: ...
    def word_starts(
        self, encoded: Any, tokens: list[int], seconds: float, language: str
    ) -> list[tuple[int, float]]: ...
    def words(
        self, encoded: Any, tokens: Sequence[list[int]], seconds: Sequence[float], language: str
    ) -> list[list[dict]]: ...


def recognise(
    engine: Engine,
    windows: Sequence[Speech],
    finished: Callable[[Speech], None] = lambda _: None,
    hurried: Callable[[Speech], bool] = lambda _: False,
) -> None:
    """Decode `windows` together and give each its `parts`, in order; none where nobody speaks.

    `finished` is called with each as soon as it is done; those that need retries do not hold the others up.
    Windows of requests that are no longer wanted are left as they are. `hurried`: whether a text
    is decoded again only if it cannot be right.
    """
    pending = [Pass(window) for window in windows]
    unfinished = list(windows)
    while unfinished:
        pending = [each for each in pending if each.speech.request.wanted()]
        batch, later = _together(pending)
        pending = later + (_decode(engine, batch, hurried) if batch else [])
        open_windows = [each.speech for each in pending]
        for window in [each for each in unfinished if each not in open_windows]:
            unfinished.remove(window)
            finished(window)


def _together(pending: Sequence[Pass]) -> tuple[list[Pass], list[Pass]]:
    """Those that one call decodes (one context, one temperature), and the rest; short contexts first, retries
    last."""
    if not pending:
        return [], []
    first = min(each.next for each in pending)
    return (
        [each for each in pending if each.next == first],
        [each for each in pending if each.next != first],
    )


def _decode(engine: Engine, batch: Sequence[Pass], hurried: Callable[[Speech], bool]) -> list[Pass]:
    """Decode a batch once; returns what must be decoded again or further."""
    _encode(engine, batch)
    # The encoder is half of the cost: a client that has left meanwhile is spared the other half.
    batch = [each for each in batch if each.speech.request.wanted()]
    if not batch:
        return []
    _detect_languages(engine, batch)
    prompts = [engine.prompt(each.speech.options, each.speech.request.language) for each in batch]
    hypotheses: list[Hypothesis | None] = [None] * len(batch)
    for length in {len(prompt) for prompt in prompts}:
        # CTranslate2 decodes prompts of one length together.
        numbers = [number for number, prompt in enumerate(prompts) if len(prompt) == length]
        found = engine.generate(
            engine.gather([batch[number].encoded for number in numbers]),
            [prompts[number] for number in numbers],
            batch[0].next.temperature,
            max(most_tokens(batch[number].samples) for number in numbers),
        )
        for number, hypothesis in zip(numbers, found, strict=True):
            hypotheses[number] = hypothesis
    again, done = [], []
    for each, hypothesis in zip(batch, hypotheses, strict=True):
        more = each.take(hypothesis, engine.text(hypothesis.tokens), hurried=hurried(each.speech))
        (again if more else done).append(each)
    return again + _settle(engine, done)


def _encode(engine: Engine, batch: Sequence[Pass]) -> None:
    """Encode what no earlier try has encoded in this context."""
    new = [each for each in batch if each.encoded is None]
    if new:
        samples = [each.samples for each in new]
        encoded = engine.encode(samples, WINDOW_S if new[0].next.full else short_context(new))
        for number, each in enumerate(new):
            each.encoded = (encoded, number)


def _detect_languages(engine: Engine, batch: Sequence[Pass]) -> None:
    unknown = [each for each in batch if each.speech.request.language is None]
    if not unknown:
        return
    encoded = engine.gather([each.encoded for each in unknown])
    languages = likeliest_languages(
        engine,
        encoded,
        [each.samples for each in unknown],
        [each.speech.options.languages for each in unknown],
        short_context(batch) if all(each.speech.options.draft for each in batch) else WINDOW_S,
    )
    for each, language in zip(unknown, languages, strict=True):
        each.speech.request.language = each.speech.request.language or language


def _settle(engine: Engine, done: Sequence[Pass]) -> list[Pass]:
    """Take the best hypothesis of each as a part of its window; returns what remains to be decoded."""
    remaining: list[Pass] = []
    to_time: dict[str, list[Pass]] = {}
    for each in done:
        hypothesis, text = each.best()
        if hypothesis.is_no_speech or not text.strip():
            continue
        language = each.speech.request.language
        tokens, seconds = hypothesis.tokens, each.seconds
        if repetition(tokens):
            tokens = without_loop(tokens)
        elif hypothesis.at_limit:
            tokens, seconds = _whole_words(engine, each, tokens, language)
            remaining += _rest(each, seconds)
        each.speech.parts.append(
            Part(
                start=each.start / SAMPLE_RATE,
                seconds=seconds,
                tokens=tokens,
                text=engine.text(tokens).strip(),
                avg_logprob=hypothesis.avg_logprob,
                no_speech=hypothesis.no_speech,
            )
        )
        if each.speech.options.word_timestamps:
            to_time.setdefault(language, []).append(each)
    for language, passes in to_time.items():
        _time_words(engine, passes, language)
    return remaining


def _time_words(engine: Engine, passes: Sequence[Pass], language: str) -> None:
    """Give the last part of each pass its words. An alignment has one language."""
    parts = [each.speech.parts[-1] for each in passes]
    encoded = engine.gather([each.encoded for each in passes])
    timed = engine.words(encoded, [part.tokens for part in parts], [part.seconds for part in parts], language)
    for each, words in zip(passes, timed, strict=True):
        each.speech.parts[-1] = replace(each.speech.parts[-1], words=words)


def _whole_words(engine: Engine, each: Pass, tokens: list[int], language: str) -> tuple[list[int], float]:
    """The tokens without the last word, which may be cut off, and the moment at which that word starts."""
    starts = engine.word_starts(engine.gather([each.encoded]), tokens, each.seconds, language)
    if len(starts) < 2 or starts[-1][1] < MIN_REMAINDER_S:
        return tokens, each.seconds
    index, moment = starts[-1]
    return tokens[:index], min(moment, each.seconds)


def _rest(each: Pass, seconds: float) -> list[Pass]:
    start = each.start + math.floor(seconds * SAMPLE_RATE)
    # Invented text may go on for ever, half a second at a time.
    if sum(len(part.tokens) for part in each.speech.parts) >= most_tokens(each.speech.samples):
        return []
    if each.speech.samples.size - start < MIN_REMAINDER_S * SAMPLE_RATE:
        return []
    return [Pass(each.speech, start)]
