"""Decode a batch of windows, with all that one pass of the decoder may leave undone.

- The temperature fallback of OpenAI's Whisper and of faster-whisper: a window whose text loops, or is
  improbable, is decoded again, sampled at rising temperatures.
- A window that fills the decoder's room goes on where it stopped: its words are aligned with the audio, and
  what follows the last whole word is decoded next.
- The language of a request that names none is that of its first window that is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from detection import likeliest_languages
from limits import MAX_RETRY_TOKENS, most_tokens
from loops import loops, repetition, without_loop
from options import Options
from windows import SAMPLE_RATE, WINDOW_S

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MIN_LOGPROB = -1.0
# Whisper's own rule for a window without speech: both must hold.
NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOGPROB = -1.0

# The encoder's context of a draft: its own length and some silence, but no less. With 10 s the encoder takes
# an eighth of the time, and Whisper says nearly the same; with less it repeats itself.
MIN_DRAFT_CONTEXT_S = 10.0
DRAFT_SILENCE_S = 2.0

# Less than this is not worth a pass of its own, and no progress.
MIN_REMAINDER_S = 0.5


@dataclass(frozen=True)
class Hypothesis:
    """What the decoder made of a window. `avg_logprob`: mean log-probability of a token.
    `no_speech`: the probability that nobody speaks. `at_limit`: the decoder stopped for want of room.
    `sampled`: tokens of all hypotheses that were decoded to find this one."""

    tokens: list[int]
    avg_logprob: float
    no_speech: float
    at_limit: bool
    sampled: int


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


@dataclass(eq=False)
class Speech:
    """A window's samples on their way to text. `request` has the language that its windows share.
    `retry_tokens`: what its retries have sampled."""

    samples: np.ndarray
    options: Options
    request: Request
    parts: list[Part] = field(default_factory=list)
    retry_tokens: int = 0


@dataclass(eq=False)
class Request:
    """What the windows of one request share. `wanted` is false once the client has left."""

    language: str | None
    wanted: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class Part:
    """A decoded part of a window: most windows have one. `start`: seconds from the window's start."""

    start: float
    seconds: float
    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech: float
    words: list[dict] | None = None


@dataclass(eq=False)
class _Pass:
    """A stretch of a window that is to be decoded, from sample `start` on, and what was tried already.

    `encoded`: the encoder's output for a batch, and the number of this stretch in it; retries use it again.
    """

    speech: Speech
    start: int = 0
    encoded: tuple[Any, int] | None = None
    tried: list[tuple[Hypothesis, str]] = field(default_factory=list)
    temperatures: Sequence[float] = ()

    def __post_init__(self) -> None:
        first = self.speech.options.temperature
        self.temperatures = (first, *(t for t in TEMPERATURES if t > first and not self.draft))

    @property
    def draft(self) -> bool:
        return self.speech.options.draft

    @property
    def samples(self) -> np.ndarray:
        return self.speech.samples[self.start :]

    @property
    def seconds(self) -> float:
        return self.samples.size / SAMPLE_RATE

    @property
    def exhausted(self) -> bool:
        """Whether no retry is left."""
        return len(self.tried) == len(self.temperatures) or self.speech.retry_tokens >= MAX_RETRY_TOKENS

    @property
    def temperature(self) -> float:
        return self.temperatures[len(self.tried)]


def recognise(
    engine: Engine, windows: Sequence[Speech], finished: Callable[[Speech], None] = lambda _: None
) -> None:
    """Decode `windows` together and give each its `parts`, in order; none where nobody speaks.

    `finished` is called with each as soon as it is done; those that need retries do not hold the others up.
    Windows of requests that are no longer wanted are left as they are.
    """
    pending = [_Pass(window) for window in windows]
    unfinished = list(windows)
    while unfinished:
        pending = [each for each in pending if each.speech.request.wanted()]
        batch, later = _together(pending)
        pending = later + (_decode(engine, batch) if batch else [])
        open_windows = [each.speech for each in pending]
        for window in [each for each in unfinished if each not in open_windows]:
            unfinished.remove(window)
            finished(window)


def _together(pending: Sequence[_Pass]) -> tuple[list[_Pass], list[_Pass]]:
    """Those that one call decodes (one temperature, drafts or not), and the rest; drafts first, retries
    last."""
    if not pending:
        return [], []

    def kind(each: _Pass) -> tuple[bool, float]:
        return not each.draft, each.temperature

    first = min(map(kind, pending))
    return (
        [each for each in pending if kind(each) == first],
        [each for each in pending if kind(each) != first],
    )


def _decode(engine: Engine, batch: Sequence[_Pass]) -> list[_Pass]:
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
            batch[0].temperature,
            max(most_tokens(batch[number].samples) for number in numbers),
        )
        for number, hypothesis in zip(numbers, found, strict=True):
            hypotheses[number] = hypothesis
    again, done = [], []
    for each, hypothesis in zip(batch, hypotheses, strict=True):
        if each.tried:
            each.speech.retry_tokens += hypothesis.sampled
        each.tried.append((hypothesis, engine.text(hypothesis.tokens)))
        if _failed(*each.tried[-1]) and not each.exhausted:
            again.append(each)
        else:
            done.append(each)
    return again + _settle(engine, done)


def _encode(engine: Engine, batch: Sequence[_Pass]) -> None:
    """Encode what no earlier try has encoded; drafts in the context that they need."""
    new = [each for each in batch if each.encoded is None]
    if new:
        samples = [each.samples for each in new]
        encoded = engine.encode(samples, _draft_context(new)) if new[0].draft else engine.encode(samples)
        for number, each in enumerate(new):
            each.encoded = (encoded, number)


def _draft_context(batch: Sequence[_Pass]) -> float:
    needed = max(each.seconds for each in batch) + DRAFT_SILENCE_S
    return min(WINDOW_S, max(MIN_DRAFT_CONTEXT_S, needed))


def _detect_languages(engine: Engine, batch: Sequence[_Pass]) -> None:
    unknown = [each for each in batch if each.speech.request.language is None]
    if not unknown:
        return
    encoded = engine.gather([each.encoded for each in unknown])
    languages = likeliest_languages(
        engine,
        encoded,
        [each.samples for each in unknown],
        [each.speech.options.languages for each in unknown],
    )
    for each, language in zip(unknown, languages, strict=True):
        each.speech.request.language = each.speech.request.language or language


def _failed(hypothesis: Hypothesis, text: str) -> bool:
    if _is_no_speech(hypothesis):
        return False
    return _loops(hypothesis, text) or hypothesis.avg_logprob < MIN_LOGPROB


def _loops(hypothesis: Hypothesis, text: str) -> bool:
    return loops(hypothesis.tokens, text, hypothesis.at_limit)


def _is_no_speech(hypothesis: Hypothesis) -> bool:
    return hypothesis.no_speech > NO_SPEECH_PROBABILITY and hypothesis.avg_logprob < NO_SPEECH_LOGPROB


def _best(tried: Sequence[tuple[Hypothesis, str]]) -> tuple[Hypothesis, str]:
    """The last when it is good, else the most probable of those that do not loop, else the most probable."""
    if not _failed(*tried[-1]):
        return tried[-1]
    straight = [each for each in tried if not _loops(*each)]
    return max(straight or tried, key=lambda each: each[0].avg_logprob)


def _settle(engine: Engine, done: Sequence[_Pass]) -> list[_Pass]:
    """Take the best hypothesis of each as a part of its window; returns what remains to be decoded."""
    remaining: list[_Pass] = []
    to_time: dict[str, list[_Pass]] = {}
    for each in done:
        hypothesis, text = _best(each.tried)
        if _is_no_speech(hypothesis) or not text.strip():
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


def _time_words(engine: Engine, passes: Sequence[_Pass], language: str) -> None:
    """Give the last part of each pass its words. An alignment has one language."""
    parts = [each.speech.parts[-1] for each in passes]
    encoded = engine.gather([each.encoded for each in passes])
    timed = engine.words(encoded, [part.tokens for part in parts], [part.seconds for part in parts], language)
    for each, words in zip(passes, timed, strict=True):
        each.speech.parts[-1] = replace(each.speech.parts[-1], words=words)


def _whole_words(engine: Engine, each: _Pass, tokens: list[int], language: str) -> tuple[list[int], float]:
    """The tokens without the last word, which may be cut off, and the moment at which that word starts."""
    starts = engine.word_starts(engine.gather([each.encoded]), tokens, each.seconds, language)
    if len(starts) < 2 or starts[-1][1] < MIN_REMAINDER_S:
        return tokens, each.seconds
    index, moment = starts[-1]
    return tokens[:index], min(moment, each.seconds)


def _rest(each: _Pass, seconds: float) -> list[_Pass]:
    start = each.start + math.floor(seconds * SAMPLE_RATE)
    # Invented text may go on for ever, half a second at a time.
    if sum(len(part.tokens) for part in each.speech.parts) >= most_tokens(each.speech.samples):
        return []
    if each.speech.samples.size - start < MIN_REMAINDER_S * SAMPLE_RATE:
        return []
    return [_Pass(each.speech, start)]
