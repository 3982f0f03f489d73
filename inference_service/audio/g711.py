"""G.711, the companded 8-bit samples of telephony, as linear 16-bit samples (ITU-T G.711)."""

import numpy as np
from numpy.typing import NDArray

#: Hz.
SAMPLE_RATE = 8000


def _ulaw_table() -> NDArray[np.int16]:
    codes = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((codes & 0x0F) << 3) + 0x84) << ((codes & 0x70) >> 4)
    return np.where(codes & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


def _alaw_table() -> NDArray[np.int16]:
    codes = np.arange(256, dtype=np.int32) ^ 0x55
    exponent = (codes & 0x70) >> 4
    mantissa = (codes & 0x0F) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.int16)


_ULAW, _ALAW = _ulaw_table(), _alaw_table()


def from_ulaw(data: bytes) -> NDArray[np.int16]:
    """The samples of µ-law codes, one a byte."""
    return _ULAW[np.frombuffer(data, dtype=np.uint8)]


def from_alaw(data: bytes) -> NDArray[np.int16]:
    """The samples of A-law codes, one a byte."""
    return _ALAW[np.frombuffer(data, dtype=np.uint8)]
