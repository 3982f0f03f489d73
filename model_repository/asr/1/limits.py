"""What a window may cost: invented text goes on and on, improbable text is tried again and again."""

from __future__ import annotations

import math

import numpy as np
from windows import SAMPLE_RATE

# A window's retries end once they have sampled so many tokens, all hypotheses counted. Without a bound,
# speech in another language than the one asked for costs minutes.
MAX_RETRY_TOKENS = 1000

# Nobody speaks faster: Georgian and Burmese have 33 tokens in a second of speech.
MAX_TOKENS_PER_S = 40
MIN_TOKENS = 40


def most_tokens(samples: np.ndarray) -> int:
    """The most tokens that speech of this length can have."""
    return math.ceil(MIN_TOKENS + MAX_TOKENS_PER_S * samples.size / SAMPLE_RATE)
