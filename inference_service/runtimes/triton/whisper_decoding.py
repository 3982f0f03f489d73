"""Speech recognition with Whisper's encoder and decoder as two models: windows and greedy decoding."""

import json
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_service.audio import mel
from inference_service.errors import BadRequest, RuntimeFailed
from inference_service.runtimes.triton.tokenizer import Tokenizer

#: Whisper's context is 448 tokens, half of it for the text of one window.
MAX_TOKENS = 224

#: Tokens in the longest run whose repetition is recognised, and in the shortest repetition that is a loop.
_LONGEST_LOOP, _SHORTEST_LOOP = 24, 12

#: Seconds before a window's end in which it is cut, at the quietest moment.
_CUT_SEARCH_SECONDS = 6

#: Root mean square of the loudest 30 ms below which a window holds no speech: -60 dB of full scale.
_SILENCE = 1e-3

#: Mean log-probability below which Whisper's own decoding calls a transcript failed.
_HOPELESS_LOGPROB = -1.0

#: From the tokens so far to the next token's logits, [vocabulary].
NextLogits = Callable[[list[int]], Awaitable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Token ids that are never chosen, and those that are not chosen first."""

    always: NDArray[np.int64]
    first: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Decoded:
    """The text tokens of one window with their log-probabilities, the end's own included."""

    tokens: list[int]
    logprobs: list[float]

    @property
    def mean_logprob(self) -> float:
        return sum(self.logprobs) / len(self.logprobs) if self.logprobs else 0.0


def load_suppressed(config_path: Path | None, tokenizer: Tokenizer) -> Suppressed:
    """The tokens that are never chosen: all special ones but the end, and those of the model's config.

    `config_path` is CTranslate2's `config.json` (`suppress_ids`, `suppress_ids_begin`) or the
    `generation_config.json` of transformers (`suppress_tokens`, `begin_suppress_tokens`). Without one,
    only an end before the first word is suppressed in addition.
    """
    end = tokenizer.end_of_text
    special = [token for token in tokenizer.special.values() if token != end]
    always: list[int] = []
    first = [end]
    if config_path is not None:
        try:
            config: Any = json.loads(config_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise RuntimeFailed(f"config_path {config_path}: cannot be read: {error}") from error
        always = config.get("suppress_ids") or config.get("suppress_tokens") or []
        first = config.get("suppress_ids_begin") or config.get("begin_suppress_tokens") or first
    chosen = {token for token in (*special, *always) if token >= 0}
    return Suppressed(np.array(sorted(chosen), np.int64), np.array(first, np.int64))


def windows(waveform: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Cut a 16 kHz waveform into stretches (start, end) of at most 30 s that leave nothing out.

    A cut falls on the quietest 30 ms of the last seconds of a window, between words rather than in one.
    """
    bounds = []
    start = 0
    step = mel.SAMPLE_RATE * 30 // 1000
    while len(waveform) - start > mel.WINDOW_SAMPLES:
        end = start + mel.WINDOW_SAMPLES
        search = waveform[end - _CUT_SEARCH_SECONDS * mel.SAMPLE_RATE : end]
        energy = np.square(search.reshape(-1, step)).sum(axis=1)
        cut = end - len(search) + int(np.argmin(energy)) * step + step // 2
        bounds.append((start, cut))
        start = cut
    bounds.append((start, len(waveform)))
    return bounds


def is_silent(waveform: NDArray[np.float32]) -> bool:
    """Whether a 16 kHz waveform is too quiet throughout to hold speech."""
    step = mel.SAMPLE_RATE * 30 // 1000
    whole = len(waveform) // step * step
    loudest = np.square(waveform[:whole].reshape(-1, step)).mean(axis=1).max() if whole else 0.0
    rest = np.square(waveform[whole:]).mean() if whole < len(waveform) else 0.0
    return float(max(loudest, rest)) < _SILENCE**2


async def decode_greedily(
    next_logits: NextLogits, start: list[int], tokenizer: Tokenizer, suppressed: Suppressed
) -> Decoded:
    """The likeliest token, one after the other, to the end of the text, the token limit, or a loop."""
    end = tokenizer.end_of_text
    tokens: list[int] = []
    logprobs: list[float] = []
    while len(tokens) < MAX_TOKENS:
        logits = (await next_logits([*start, *tokens])).astype(np.float64)
        if len(logits) <= end:
            raise RuntimeFailed(
                f"the decoder gives {len(logits)} logits, fewer than its tokenizer has tokens ({end + 1})"
            )
        barred = suppressed.always if tokens else np.concatenate([suppressed.always, suppressed.first])
        logits[barred[barred < len(logits)]] = -np.inf
        logits[end + 1 :] = -np.inf  # timestamps and other special tokens
        best = int(np.argmax(logits))
        top = logits[best]
        if not np.isfinite(top):
            raise RuntimeFailed("the decoder's logits are not finite numbers")
        logprobs.append(float(-np.log(np.sum(np.exp(logits - top)))))
        if best == end:
            return Decoded(tokens, logprobs)
        tokens.append(best)
        if repeated := _repeated(tokens):
            return Decoded(tokens[:-repeated], logprobs[:-repeated])
    return Decoded(tokens, logprobs)


def _repeated(tokens: list[int]) -> int:
    """The number of tokens at the end that repeat earlier ones in a loop; 0 if there is no loop.

    A loop is a run of tokens three times over, and of at least a dozen tokens in all: "no, no, no" is speech.
    """
    for length in range(1, min(_LONGEST_LOOP, len(tokens) // 3) + 1):
        times = max(3, -(-_SHORTEST_LOOP // length))
        if length * times <= len(tokens) and tokens[-length * times :] == tokens[-length:] * times:
            return length * (times - 1)
    return 0


async def detect_language(
    next_logits: NextLogits, tokenizer: Tokenizer, possible: Collection[str] = ()
) -> str:
    """The code of the language that the model finds likeliest, of `possible` where some are given; `en` for
    an English-only model."""
    if not tokenizer.languages:
        return "en"
    logits = await next_logits([tokenizer.special["<|startoftranscript|>"]])
    return max(possible or tokenizer.languages, key=lambda code: logits[tokenizer.languages[code]])


def check_language(language: str | None, tokenizer: Tokenizer) -> str | None:
    """`language` as the model's code for it; None where it was not given. Raises BadRequest."""
    if not language:
        return None
    code = language.lower().replace("_", "-").split("-", 1)[0]
    known = tokenizer.languages or {"en": 0}
    if code not in known:
        raise BadRequest(
            f'language: "{language[:40]}" is not one of the model\'s: {", ".join(sorted(known))}'
        )
    return code


def text_of(decoded: Decoded, tokenizer: Tokenizer) -> str:
    """One window's text; empty if its tokens are too improbable."""
    if decoded.mean_logprob < _HOPELESS_LOGPROB:
        return ""
    return tokenizer.text(decoded.tokens).strip()
