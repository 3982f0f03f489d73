"""The log-mel features against those of the published Whisper packages."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference_service.audio import mel

pytestmark = pytest.mark.fast

MODELS_PYTHON = (
    Path(os.environ.get("MODELS_VENV", Path(__file__).parents[2] / ".venv-models")) / "bin" / "python"
)


def chirp() -> NDArray[np.float32]:
    seconds = np.arange(2 * mel.SAMPLE_RATE) / mel.SAMPLE_RATE
    return (0.4 * np.sin(2 * np.pi * (100 * seconds + 900 * seconds**2))).astype(np.float32)


@pytest.mark.skipif(not MODELS_PYTHON.exists(), reason="the models' environment is not there")
@pytest.mark.parametrize("bands", mel.BANDS)
def test_features_are_those_of_faster_whisper(tmp_path: Path, bands: int) -> None:
    np.save(tmp_path / "audio.npy", chirp())
    script = (
        "import numpy, sys; from faster_whisper.feature_extractor import FeatureExtractor;"
        "features = FeatureExtractor(feature_size=int(sys.argv[3]));"
        "numpy.save(sys.argv[2], features(numpy.load(sys.argv[1]), padding=0))"
    )
    files = (tmp_path / "audio.npy", tmp_path / "mel.npy")
    subprocess.run([MODELS_PYTHON, "-c", script, *files, str(bands)], check=True)
    reference = np.load(tmp_path / "mel.npy")
    ours = mel.log_mel(chirp(), bands)
    assert len(ours) == bands
    assert np.abs(ours - reference[:, : ours.shape[1]]).max() < 1e-5


def test_features_are_the_stored_ones() -> None:
    """Stored numbers from faster-whisper 1.2.1, for environments without that package."""
    features = mel.log_mel(chirp())
    assert features.shape == (80, 200)
    assert features.dtype == np.float32
    stored = [
        [1.3301000595092773, -0.600849986076355, -0.600849986076355, -0.600849986076355, -0.5390899777412415],
        [1.00108003616333, -0.600849986076355, -0.600849986076355, -0.600849986076355, -0.5381699800491333],
        [
            0.36691001057624817,
            -0.15508000552654266,
            -0.600849986076355,
            -0.600849986076355,
            -0.5272799730300903,
        ],
        [
            0.03449999913573265,
            -0.600849986076355,
            0.28367000818252563,
            -0.600849986076355,
            -0.46926000714302063,
        ],
        [
            -0.45238998532295227,
            -0.600849986076355,
            -0.600849986076355,
            -0.600849986076355,
            -0.5885599851608276,
        ],
    ]
    assert np.allclose(features[[0, 5, 20, 40, 79]][:, [0, 50, 100, 150, 199]], stored, atol=1e-4)


def test_a_window_is_padded_to_thirty_seconds() -> None:
    assert mel.window_log_mel(chirp()).shape == (80, 3000)
    with pytest.raises(ValueError, match="480000"):
        mel.window_log_mel(np.zeros(480_001, np.float32))


@pytest.mark.parametrize("samples", [1, 100, 399, 400, 401, 1600])
def test_the_shortest_audio_has_features(samples: int) -> None:
    features = mel.log_mel(np.full(samples, 0.1, np.float32))
    assert features.shape == (80, max(400, samples) // 160)
    assert np.isfinite(features).all()


def test_long_audio_gives_the_features_of_its_parts() -> None:
    long = np.tile(chirp(), 45)  # more frames than one transform takes
    features = mel.log_mel(long)
    assert features.shape == (80, 9000)
    assert np.allclose(features[:, 8300:8400], features[:, 300:400], atol=1e-4)
