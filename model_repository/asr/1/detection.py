"""The language of a window, where the request names none."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

import numpy as np
from windows import SAMPLE_RATE, WINDOW_S

# A language of less probability is detected again, if repetitions of the audio add as much as a third.
SURE_LANGUAGE = 0.7
SHORT = 0.75


class Detector(Protocol):
    """Whisper's encoder and language detection; see `engine.py`."""

    def encode(self, windows: Sequence[np.ndarray], seconds: float = ...) -> Any: ...
    def detect_languages(self, encoded: Any) -> list[dict[str, float]]: ...


def likeliest_languages(
    detector: Detector,
    encoded: Any,
    windows: Sequence[np.ndarray],
    possible: Sequence[Collection[str]],
    context_s: float = WINDOW_S,
) -> list[str]:
    """The code of the likeliest language of each window; `encoded` is what the encoder made of them.

    `possible` has the codes of the languages that may be spoken in each window; where it is empty: any.

    Whisper tells languages apart better in a full window than in a few seconds and silence. So a short window
    in which it is uncertain is repeated until it fills one, and the probabilities of both are added.
    `context_s`: seconds of a full window for the encoder; less for drafts.
    """
    found = detector.detect_languages(encoded)
    uncertain = [
        number
        for number, samples in enumerate(windows)
        if max(found[number].values()) < SURE_LANGUAGE and samples.size <= SHORT * context_s * SAMPLE_RATE
    ]
    if uncertain:
        repeated = [_repeated(windows[number], context_s) for number in uncertain]
        for number, again in zip(
            uncertain, detector.detect_languages(detector.encode(repeated, context_s)), strict=True
        ):
            found[number] = {code: found[number][code] + again[code] for code in again}
    return [
        max(codes or probabilities, key=probabilities.__getitem__)
        for probabilities, codes in zip(found, possible, strict=True)
    ]


def _repeated(samples: np.ndarray, seconds: float) -> np.ndarray:
    full = int(seconds * SAMPLE_RATE)
    return np.tile(samples, -(-full // samples.size))[:full]
