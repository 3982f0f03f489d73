"""Recognise a decoder that is caught in a loop.

Tokens a second do not tell: Georgian and Burmese have 33 in a second of ordinary speech, English has 3.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

# As faster-whisper's.
MAX_COMPRESSION_RATIO = 2.4
# An n-gram of tokens that follows itself so often, over so many tokens, is no speech.
MIN_REPEATS = 5
MIN_REPEATED_TOKENS = 20
_LONGEST_NGRAM = 40


def compression_ratio(text: str) -> float:
    """How well `text` compresses: characters over bytes when deflated; 0 for an empty text.

    Whisper's own measure counts bytes of UTF-8, of which two in three repeat in most scripts of Asia. Here
    each character is one byte, or two where the text has more than 256, so that all scripts measure alike.
    """
    alphabet = {character: number for number, character in enumerate(dict.fromkeys(text))}
    width = 1 if len(alphabet) <= 256 else 2
    numbers = b"".join(alphabet[character].to_bytes(width, "big") for character in text)
    return len(numbers) / len(zlib.compress(numbers)) if numbers else 0.0


def repetition(tokens: Sequence[int]) -> tuple[int, int] | None:
    """Where an n-gram of `tokens` follows itself too often to be speech: its further rounds, as (first index,
    end). None where no n-gram does."""
    numbers = np.asarray(tokens)
    best = None
    for length in range(1, min(_LONGEST_NGRAM, len(tokens) // MIN_REPEATS) + 1):
        start, end = _longest_run(numbers[:-length] == numbers[length:])
        repeated = end - start + length
        if repeated >= max(MIN_REPEATS * length, MIN_REPEATED_TOKENS) and (
            best is None or repeated > best[1] - best[0] + length
        ):
            best = (start + length, end + length)
    return best


def loops(tokens: Sequence[int], text: str, at_limit: bool) -> bool:
    """Whether the decoder that gave `tokens`, which are `text`, was caught in a loop.

    People repeat whole sentences, too. A loop that is not an n-gram's goes on until the decoder stops for
    want of room (`at_limit`).
    """
    return repetition(tokens) is not None or (at_limit and compression_ratio(text) > MAX_COMPRESSION_RATIO)


def without_loop(tokens: Sequence[int]) -> list[int]:
    """`tokens` with one round of what they repeat."""
    rounds = repetition(tokens)
    return list(tokens) if rounds is None else [*tokens[: rounds[0]], *tokens[rounds[1] :]]


def _longest_run(same: np.ndarray) -> tuple[int, int]:
    """The longest stretch of true values, [start, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    starts, ends = edges[::2], edges[1::2]
    if not starts.size:
        return 0, 0
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest])
