"""The turns of speech and the growing text of real-time sessions, without a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import soundfile

from inference_service.audio import g711
from inference_service.http.openai.realtime.deltas import Deltas
from inference_service.http.openai.realtime.turns import TurnDetector, TurnSettings
from tests.triton_server import ROOT

pytestmark = pytest.mark.fast

RECORDING = ROOT / "recordings" / "inaugural-1961.flac"


def noise(seconds: float, decibels: float, seed: int = 0) -> np.ndarray:
    """White noise of this level under full scale, 16 kHz."""
    level = 32768 * 10 ** (decibels / 20)
    return np.random.default_rng(seed).normal(0, level, round(seconds * 16000)).astype(np.int16)


def turns(audio: np.ndarray, **settings: Any) -> list[tuple[bool, float]]:
    detector = TurnDetector(TurnSettings(**settings), 16000)
    return [
        (begins, round(at / 16000, 1))
        for part in np.array_split(audio, 50)
        for begins, at in detector.feed(part)
    ]


def test_a_quiet_voice_is_a_turn_and_steady_noise_is_none_for_long() -> None:
    quiet = np.concatenate([noise(1, -75), noise(1, -50), noise(1, -75)])
    assert turns(quiet) == [(True, 1.0), (False, 2.5)]
    assert turns(quiet, threshold=1.0) == []
    assert len(turns(noise(60, -40))) <= 2


def test_speech_at_the_very_beginning_and_above_noise_is_a_turn() -> None:
    assert turns(np.concatenate([noise(1, -20), noise(1, -70)])) == [(True, 0.0), (False, 1.5)]
    noisy = np.concatenate([noise(12, -45), noise(1, -25), noise(2, -45)])
    assert turns(noisy)[-2:] == [(True, 12.0), (False, 13.5)]


def test_a_click_is_no_turn_and_a_short_pause_ends_none() -> None:
    click = noise(3, -70)
    click[16000:16400] = 20000
    assert turns(click) == []
    paused = np.concatenate([noise(1, -70), noise(1, -25), noise(0.3, -70), noise(1, -25), noise(1, -70)])
    assert turns(paused) == [(True, 1.0), (False, 3.8)]
    assert len(turns(paused, silence_duration_ms=200)) == 4


@pytest.mark.parametrize("decibels", [0, -30])
@pytest.mark.parametrize("ratio", [60, 20, 10])
def test_the_pauses_of_a_speaker_end_turns_in_a_noisy_room_and_at_any_level(
    decibels: float, ratio: float
) -> None:
    """The recording has pauses after 2.1, 4.3 and 7.5 s; `ratio`: decibels between speech and noise."""
    samples, _ = soundfile.read(RECORDING, dtype="float32")
    level = np.sqrt(np.mean(np.square(samples))) * 10 ** (-ratio / 20)
    heard = samples + np.random.default_rng(0).normal(0, level, len(samples))
    found = turns((heard * 32767 * 10 ** (decibels / 20)).clip(-32768, 32767).astype(np.int16))
    assert [at for begins, at in found if not begins][:3] == [
        pytest.approx(2.6, abs=0.25), pytest.approx(4.8, abs=0.25), pytest.approx(8.0, abs=0.25)
    ]  # fmt: skip
    assert sum(begins for begins, _ in found) == 4


def test_a_word_is_told_once_two_hypotheses_agree_on_it() -> None:
    deltas = Deltas()
    hypotheses = ["S.", "And...", "and so...", "And so my fellow.", "And so my fellow Americans."]
    assert [deltas.partial(text) for text in hypotheses] == ["", "", "and", " so", " my fellow"]
    assert deltas.final("And so my fellow Americans,") == " Americans,"
    assert [deltas.partial(text) for text in ("ask", "ask not")] == ["", " ask"]
    assert deltas.final("ask not.") == " not."
    assert deltas.text == "And so my fellow Americans, ask not."


def test_a_language_without_blanks_is_told_by_its_characters() -> None:
    deltas = Deltas()
    assert [deltas.partial(text) for text in ("人人生", "人人生而自", "人人生而自由")] == [
        "",
        "人人生",
        "而自",
    ]
    assert deltas.final("人人生而自由") == "由"


def test_g711_is_that_of_the_standard() -> None:
    """Values of tables 1a and 2a of the standard's reference decoders."""
    ulaw = g711.from_ulaw(bytes([0x00, 0x7F, 0x80, 0xFF, 0xAA]))
    assert ulaw.tolist() == [-32124, 0, 32124, 0, 5372]
    alaw = g711.from_alaw(bytes([0x2A, 0xAA, 0x55, 0xD5, 0x80]))
    assert alaw.tolist() == [-32256, 32256, -8, 8, 5504]
