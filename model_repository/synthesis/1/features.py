"""The features of the synthesis model: the movement of a log-mel spectrogram, independent of loudness and
bandwidth."""

import numpy as np

# Bands up to 3.4 kHz, the band of a telephone, so that its limit reveals nothing.
BANDS = 57
# Fewer frames (10 ms each) with sound than this are too few for a verdict.
MIN_FRAMES = 30
# A frame counts as sound within 35 dB of the loudest; Whisper's scale is a quarter of log10 of power.
SOUND_RANGE = 35 / 40


def features(mel: np.ndarray) -> np.ndarray | None:
    """Statistics [n] of a log-mel spectrogram [80, frames] (Whisper's); None when it has too little sound, or
    sound that does not move, as a constant offset: that is no voice."""
    level = mel[:BANDS].max(axis=0)
    sound = level > level.max() - SOUND_RANGE
    both = sound[1:] & sound[:-1]
    if sound.sum() < MIN_FRAMES or both.sum() < MIN_FRAMES or np.ptp(mel) < 1e-3:
        return None
    bands = mel[:BANDS]
    bands = np.maximum(bands, level.max() - 1.25)  # one floor, 50 dB down, for clean and for noisy sound
    shape = bands[:, sound] - bands[:, sound].mean(axis=0)
    change = np.diff(bands, axis=1)[:, both]
    together = _correlation(change[:-1], change[1:])
    if together is None:
        return None
    second = np.diff(bands, n=2, axis=1)[:, both[1:] & both[:-1]]
    # Ripple across bands: the resolved harmonics and their steadiness.
    ripple = np.diff(shape, n=2, axis=0)
    loudness = bands.mean(axis=0)[sound]
    return np.concatenate(
        [
            _grouped(shape.std(axis=1)),
            _grouped(change.std(axis=1)),
            _grouped(np.abs(change).mean(axis=1) / (change.std(axis=1) + 1e-3)),  # peaky or even movement
            _grouped(second.std(axis=1) / (change.std(axis=1) + 1e-3)),  # smooth or rough movement
            _grouped(np.pad(np.abs(ripple).mean(axis=1), (1, 1), mode="edge")),
            [
                np.mean(np.abs(change).mean(axis=0) < 0.01),  # frames without movement
                together,  # bands move together
                loudness.std(),
                np.abs(np.diff(loudness)).mean(),
            ],
        ]
    )


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Pearson's; None where one of the two does not vary."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def _grouped(values: np.ndarray) -> np.ndarray:
    """Means over 19 groups of three neighbouring bands."""
    return values.reshape(-1, 3).mean(axis=1)
