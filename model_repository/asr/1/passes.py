"""Windows on their way to text: what is tried with each, and whether a text is good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from limits import MAX_RETRY_TOKENS
from loops import loops
from options import Options
from windows import SAMPLE_RATE, WINDOW_S

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
MIN_LOGPROB = -1.0
# Whisper's own rule for a window without speech: both must hold.
NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOGPROB = -1.0

# The encoder's context for live speech: its own length and some silence, but no less. With 10 s the encoder
# takes an eighth of the time, and Whisper says nearly the same; with less it repeats itself.
MIN_CONTEXT_S = 10.0
SILENCE_S = 2.0
# A final result whose text is less probable is decoded again in the full context, unless there is a hurry.
# Without that the word error rate is a point higher (base, recorded prompts in five languages).
SURE_LOGPROB = -0.22


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

    @property
    def is_no_speech(self) -> bool:
        """Whether nobody speaks in the window."""
        return self.no_speech > NO_SPEECH_PROBABILITY and self.avg_logprob < NO_SPEECH_LOGPROB


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
class Speech:
    """A window's samples on their way to text. `request` has the language that its windows share.
    `retry_tokens`: what its retries have sampled."""

    samples: np.ndarray
    options: Options
    request: Request
    parts: list[Part] = field(default_factory=list)
    retry_tokens: int = 0


class Try(NamedTuple):
    """`full`: the encoder hears 30 s, else what `short_context` says."""

    full: bool
    temperature: float


def tries_of(options: Options) -> list[Try]:
    """What is tried until the text is good: a draft once, other live speech in the short context first."""
    first = options.temperature
    if options.draft:
        return [Try(False, first)]
    full = [Try(True, first), *(Try(True, t) for t in TEMPERATURES if t > first)]
    return [Try(False, first), *full] if options.live else full


@dataclass(eq=False)
class Pass:
    """A stretch of a window that is to be decoded, from sample `start` on, and what was tried already.

    `encoded`: the encoder's output for a batch, and the number of this stretch in it; tries in the same
    context use it again.
    """

    speech: Speech
    start: int = 0
    encoded: tuple[Any, int] | None = None
    tries: Sequence[Try] = ()
    tried: list[tuple[Hypothesis, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tries = tries_of(self.speech.options)

    @property
    def samples(self) -> np.ndarray:
        return self.speech.samples[self.start :]

    @property
    def seconds(self) -> float:
        return self.samples.size / SAMPLE_RATE

    @property
    def next(self) -> Try:
        """The try that comes next."""
        return self.tries[len(self.tried)]

    def take(self, hypothesis: Hypothesis, text: str, *, hurried: bool) -> bool:
        """Take what the next try has found. Returns whether another one is to follow; `hurried`: only where
        the text cannot be right."""
        done = self.next
        if self.tried:
            self.speech.retry_tokens += hypothesis.sampled
        self.tried.append((hypothesis, text))
        if len(self.tried) == len(self.tries) or self.speech.retry_tokens >= MAX_RETRY_TOKENS:
            return False
        unsure = not done.full and not hurried and hypothesis.avg_logprob < SURE_LOGPROB
        if not unsure and not _failed(hypothesis, text):
            return False
        if self.next.full != done.full:
            self.encoded = None
        return True

    def best(self) -> tuple[Hypothesis, str]:
        """The last when it is good, else the most probable of those that do not loop, else the most
        probable."""
        if not _failed(*self.tried[-1]):
            return self.tried[-1]
        straight = [each for each in self.tried if not _loops(*each)]
        return max(straight or self.tried, key=lambda each: each[0].avg_logprob)


def short_context(batch: Sequence[Pass]) -> float:
    """Seconds that the encoder hears of live speech."""
    return min(WINDOW_S, max(MIN_CONTEXT_S, max(each.seconds for each in batch) + SILENCE_S))


def _failed(hypothesis: Hypothesis, text: str) -> bool:
    if hypothesis.is_no_speech:
        return False
    return _loops(hypothesis, text) or hypothesis.avg_logprob < MIN_LOGPROB


def _loops(hypothesis: Hypothesis, text: str) -> bool:
    return loops(hypothesis.tokens, text, hypothesis.at_limit)
