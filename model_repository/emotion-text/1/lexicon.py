"""Emotion of a text: a hand-written lexicon, and rules on negation, strength and exclamation. Not trained."""

import json
import re
from pathlib import Path

import numpy as np

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "surprised")

_STRONG, _PLAIN = 2.4, 1.6
_NEUTRAL = (
    1.0  # so that a text without a word of the lexicon is neutral at 0.35, and one plain word outweighs it
)
_WORDS = re.compile(r"[a-zà-ÿ]+(?:'[a-z]+)?|[!?,.;:]|[一-鿿]+")
_NEGATIONS = {"not", "no", "never", "nothing", "neither", "nor", "without", "hardly", "cannot", "nobody"}
_CHINESE_NEGATIONS = ("不", "没", "别", "无")
_AMPLIFIERS = {
    "very",
    "so",
    "extremely",
    "absolutely",
    "really",
    "totally",
    "incredibly",
    "completely",
    "deeply",
}
_DIMINISHERS = {"slightly", "somewhat", "bit", "little", "fairly"}
_CLAUSE_ENDS = set("!?,.;:") | {"but", "although", "though", "however"}
_NEGATION_REACH = 3  # words
# The label of a denied emotion. “Not sad” does not mean joy, so most denials are neutral.
_DENIED = {"happy": "sad"}


def load(path: Path) -> dict[str, tuple[str, float]]:
    """The lexicon file as word → (label, weight)."""
    lexicon = json.loads(path.read_text(encoding="utf-8"))
    return {
        word: (label, _STRONG if strength == "strong" else _PLAIN)
        for label, lists in lexicon.items()
        for strength, words in lists.items()
        for word in words.split()
    }


def logits(text: str, lexicon: dict[str, tuple[str, float]]) -> np.ndarray:
    """Scores [6] in the order of `LABELS`."""
    scores = dict.fromkeys(LABELS, 0.0)
    scores["neutral"] = _NEUTRAL
    tokens = _WORDS.findall(text.lower().replace("’", "'"))
    for position, token in enumerate(tokens):
        if "一" <= token[0] <= "鿿":
            _score_chinese(token, lexicon, scores)
        elif token in lexicon:
            label, weight = lexicon[token]
            before = _clause_before(tokens, position)
            if _AMPLIFIERS & set(before[-2:]):
                weight *= 1.4
            if _DIMINISHERS & set(before[-2:]):
                weight *= 0.6
            # "really" and "so" amplify the next word and have no emotion of their own.
            if token in _AMPLIFIERS and position + 1 < len(tokens) and tokens[position + 1].isalpha():
                continue
            _add(scores, label, weight, denied=any(map(_is_negation, before)))
    emotional = [label for label in LABELS if label != "neutral" and scores[label] > 0]
    for label in emotional:
        scores[label] += 0.3 * min(text.count("!") + text.count("！"), 3)
    # Limited: the hundredth word of joy in a text adds nothing.
    return np.array([min(scores[label], 6.0) for label in LABELS], np.float32)


def _clause_before(tokens: list[str], position: int) -> list[str]:
    """The words of the same clause before a position, within the reach of a negation."""
    start = position
    while start > max(0, position - _NEGATION_REACH) and tokens[start - 1] not in _CLAUSE_ENDS:
        start -= 1
    return tokens[start:position]


def _is_negation(word: str) -> bool:
    return word in _NEGATIONS or word.endswith("n't")


def _add(scores: dict[str, float], label: str, weight: float, *, denied: bool) -> None:
    if not denied:
        scores[label] += weight
    else:
        scores[_DENIED.get(label, "neutral")] += 0.8 * weight


def _score_chinese(run: str, lexicon: dict[str, tuple[str, float]], scores: dict[str, float]) -> None:
    """Splits Chinese, which has no spaces: the longest words of the lexicon are found first."""
    for word in sorted((word for word in lexicon if "一" <= word[0] <= "鿿"), key=len, reverse=True):
        while (at := run.find(word)) >= 0:
            label, weight = lexicon[word]
            _add(scores, label, weight, denied=run[max(0, at - 2) : at].endswith(_CHINESE_NEGATIONS))
            run = run[:at] + "　" + run[at + len(word) :]
