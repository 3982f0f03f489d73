"""Text that only grows, from results that replace each other.

A partial result of a stream replaces the one before it; OpenAI's delta events cannot take a word back. So a
word is told once two partial results in a row begin with the same words up to it, as in LocalAgreement, or
once it is final. Drafts of a few words change their punctuation and case most of all; both may differ.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

#: A word with the blanks before it; of languages without blanks between words, a character.
_WITHOUT_BLANKS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"\s*(?:[{_WITHOUT_BLANKS}]|[^\s{_WITHOUT_BLANKS}]+)")

_NOT_LETTERS = re.compile(r"[\W_]+")
_PUNCTUATION_AFTER = re.compile(r"[^\w\s'’\"”)]+$")


class Deltas:
    """The text of one item."""

    def __init__(self) -> None:
        self._final: list[str] = []  # texts of the final results
        self._told = 0  # words of the text that were told
        self._last: list[str] = []  # words of the last partial result, after those of the final ones

    @property
    def text(self) -> str:
        """The text of all final results."""
        return " ".join(self._final)

    def partial(self, text: str) -> str:
        """The delta that a partial result about the audio after the last final one allows; "" for none."""
        words = _words(" ".join([*self._final, text]) if text else self.text)
        agreed = _agreed(self._last, words)
        self._last = words
        return self._tell(agreed)

    def final(self, text: str) -> str:
        """The delta of a final result; "" for none."""
        if text:
            self._final.append(text)
        words = _words(self.text)
        delta = self._tell(words)
        # A draft may have had more words than its final result.
        self._told, self._last = len(words), words
        return delta

    def _tell(self, words: Sequence[str]) -> str:
        new = words[self._told :]
        self._told += len(new)
        return "".join(new)


def _words(text: str) -> list[str]:
    return _WORD.findall(text)


def _agreed(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """The words with which both begin, as `now` has them.

    Without the punctuation after a word that not both have, and after the last one: a draft ends its text
    with a full stop wherever the audio ends.
    """
    pairs = takewhile(lambda pair: _letters(pair[0]) == _letters(pair[1]), zip(before, now, strict=False))
    agreed = [word if word == other else _PUNCTUATION_AFTER.sub("", word) for other, word in pairs]
    if agreed and len(agreed) == len(now):
        agreed[-1] = _PUNCTUATION_AFTER.sub("", agreed[-1])
    return agreed


def _letters(word: str) -> str:
    return _NOT_LETTERS.sub("", word).casefold() or word.strip()
