"""Text that only grows, from results that replace each other.

A partial result of a stream replaces the one before it; OpenAI's delta events cannot take a word back. So a
word is told once two partial results in a row begin with the same words up to it, as in LocalAgreement, or
once it is final.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

#: A word with the blanks before it; of languages without blanks between words, a character.
_UNIT = re.compile(r"\s*(?:[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|"
                   r"[^\s\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]+)")  # fmt: skip


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
        agreed = _common(self._last, words)
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

    def _tell(self, words: list[str]) -> str:
        new = words[self._told :]
        self._told += len(new)
        return "".join(new)


def _words(text: str) -> list[str]:
    return _UNIT.findall(text)


def _common(one: Sequence[str], other: Sequence[str]) -> list[str]:
    """The words with which both begin."""
    return [word for word, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))]
