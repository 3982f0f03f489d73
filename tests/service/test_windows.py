"""Long recordings are cut at pauses into windows of half a minute, recognised some at once, and joined."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import Busy, RuntimeFailed, RuntimeTimeout
from inference_service.runtimes.base import Call
from inference_service.settings import Settings
from inference_service.tasks import (
    DetailedTranscript,
    Priority,
    Segment,
    Task,
    TranscribeOptions,
    Transcript,
    Word,
)
from inference_service.windows import Window, cut
from tests.service.conftest import DoubleRuntime

pytestmark = pytest.mark.fast

RATE = 16000
CALL = Call("test")
Make = Callable[..., Settings]


def speech(*parts: tuple[float, float], rate: int = RATE, noise: float = 1e-4) -> Audio:
    """Parts of (seconds, level): noise of that level, over the quiet noise of a room."""
    random = np.random.default_rng(0)
    sound = [random.normal(0, level, round(seconds * rate)) for seconds, level in parts]
    samples = np.concatenate(sound) + random.normal(0, noise, sum(map(len, sound)))
    return Audio(samples.astype(np.float32), rate)


def talk(seconds: float, rate: int = RATE) -> Audio:
    """Words of 0.4 s with gaps of 0.1 s, and a pause of 0.5 s after every eighth."""
    words = [(0.4, 0.1), (0.1, 0.0)] * 7 + [(0.4, 0.1), (0.5, 0.0)]
    return speech(*itertools.islice(itertools.cycle(words), round(seconds / 4.4 * 16)), rate=rate)


def samples_of(windows: list[Window]) -> np.ndarray:
    return np.concatenate([np.arange(*each) for window in windows for each in window.ranges])


class Reader(DoubleRuntime):
    """A test double whose words are the seconds of the recording, which its samples hold: sample = second /
    1000. So a word that is lost, cut in two or heard twice shows."""

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        plain = await super().transcribe(audio, options, call)
        numbers = np.rint(audio.samples * 1000).astype(int)
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        words = [
            Word(f"{numbers[start]}", start / RATE, end / RATE, 0.9)
            for start, end in itertools.pairwise([*starts, len(numbers)])
        ]
        segment = Segment(0, 0.0, audio.seconds, "a segment", -0.1, 0.0, words)
        text = f"{words[0].word}-{words[-1].word}"
        return DetailedTranscript(Transcript(text, 0.5, "fr", plain.transcript.duration_ms), [segment])


def counting(seconds: int) -> Audio:
    """A recording whose every second holds its number."""
    return Audio(np.repeat(np.arange(seconds, dtype=np.float32) / 1000, RATE), RATE)


# Cutting ---------------------------------------------------------------------------------------------------


def test_a_recording_of_half_a_minute_is_one_window() -> None:
    audio = speech((30.0, 0.1))
    assert [window.ranges for window in cut(audio, 30)] == [((0, audio.frames),)]


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_windows_of_unbroken_sound_hold_every_sample_once(rate: int) -> None:
    audio = speech((95.3, 0.1), rate=rate)
    windows = cut(audio, 30)
    assert np.array_equal(samples_of(windows), np.arange(audio.frames))
    assert all(0 < window.seconds <= 30 for window in windows)


def test_windows_are_cut_in_pauses_and_filled() -> None:
    audio = talk(600)
    windows = cut(audio, 30)
    assert len(windows) <= 600 / 24
    for window in windows[:-1]:
        at = window.ranges[-1][1]
        around = audio.samples[at - RATE // 20 : at + RATE // 20]
        assert np.sqrt(np.mean(np.square(around))) < 0.001, f"a word is cut at {window.end} s"


def test_long_pauses_are_shortened_so_that_speech_fills_the_windows() -> None:
    audio = speech(*[(5.0, 0.1), (25.0, 0.0)] * 10)
    windows = cut(audio, 30)
    assert len(windows) <= 4  # 50 s of speech, with two seconds around each stretch
    kept = np.zeros(audio.frames, bool)
    kept[samples_of(windows)] = True
    for start in range(0, 300, 30):
        assert kept[start * RATE : (start + 5) * RATE].all()


def test_quiet_speech_beside_loud_noise_is_kept() -> None:
    """After two minutes of noise somebody speaks far below its level."""
    audio = speech((120.0, 0.1), (20.0, 0.0), (10.0, 0.002), (20.0, 0.0))
    kept = np.zeros(audio.frames, bool)
    kept[samples_of(cut(audio, 30))] = True
    assert kept[140 * RATE : 150 * RATE].all()


def test_a_silent_recording_is_one_window_for_the_model_to_judge() -> None:
    windows = cut(Audio(np.zeros(600 * RATE, np.int16), RATE), 30)
    assert len(windows) == 1
    assert windows[0].seconds <= 30


def test_channels_of_integers_are_measured_as_floats_are() -> None:
    mono = talk(100)
    stereo = np.repeat((mono.samples * 32767).astype(np.int16)[:, None], 2, axis=1)
    assert [window.ranges for window in cut(Audio(stereo, RATE), 30)] == [
        window.ranges for window in cut(mono, 30)
    ]


# Recognising -----------------------------------------------------------------------------------------------


@pytest.fixture
async def engine(settings: Make) -> AsyncIterator[Engine]:
    engine = Engine(settings(AI__MODELS__ASR__WINDOWS_AT_ONCE="3"), Reader())
    yield engine
    await engine.close()


async def test_windows_are_joined_without_loss_and_without_overlap(engine: Engine) -> None:
    heard = await engine.transcribe(counting(200), TranscribeOptions(word_timestamps=True), CALL)

    words = [word for segment in heard.segments for word in segment.words or []]
    covered = np.zeros(200 * 1000, int)
    for word in words:
        covered[round(word.start * 1000) : round(word.end * 1000)] += 1
        assert int(word.word) == pytest.approx(word.start, abs=1)  # where the recording says so
    assert covered.max() == 1
    assert np.count_nonzero(covered == 0) <= len(words)  # rounding
    times = [moment for word in words for moment in (word.start, word.end)]
    assert times == sorted(times)
    assert [segment.id for segment in heard.segments] == list(range(len(heard.segments)))
    assert heard.transcript.duration_ms == 200_000
    assert heard.transcript.confidence == pytest.approx(0.5)
    assert heard.transcript.text.startswith("0-")
    assert heard.transcript.text.endswith("-199")


async def test_only_so_many_windows_of_a_recording_are_in_flight(engine: Engine) -> None:
    engine.runtime.delay = 0.01
    await engine.transcribe(counting(600), TranscribeOptions(language="fr"), CALL)
    assert engine.runtime.most_running == 3


async def test_the_language_of_the_first_window_with_text_is_that_of_the_rest(engine: Engine) -> None:
    heard = await engine.transcribe(counting(120), TranscribeOptions(), CALL)
    assert [options.language for options in engine.runtime.options] == [None, "fr", "fr", "fr", "fr"]
    assert heard.transcript.language == "fr"


async def test_the_text_before_is_a_windows_prompt_only_where_asked(engine: Engine) -> None:
    await engine.transcribe(counting(90), TranscribeOptions(prompt="Names.", carry_text=True), CALL)
    carried = [options.prompt for options in engine.runtime.options]
    assert carried[0] == "Names."
    assert all(prompt.startswith("Names. 0-") for prompt in carried[1:])
    assert engine.runtime.most_running == 1
    engine.runtime.options.clear()
    await engine.transcribe(counting(90), TranscribeOptions(prompt="Names."), CALL)
    assert {options.prompt for options in engine.runtime.options} == {"Names."}


async def test_short_recordings_go_before_the_windows_of_long_ones(settings: Make) -> None:
    engine = Engine(settings(SERVER__MAX_CONCURRENCY="1"), Reader())
    engine.runtime.delay = 0.05
    long = asyncio.create_task(engine.transcribe(counting(200), TranscribeOptions("fr"), CALL))
    await asyncio.sleep(0.12)
    await engine.transcribe(counting(3), TranscribeOptions(), CALL)
    assert not long.done()
    await long
    priorities = [call.priority for call in engine.runtime.calls]
    assert priorities.index(Priority.SHORT) < 6
    assert set(priorities) == {Priority.SHORT, Priority.LONG}
    await engine.close()


async def test_a_short_recording_finds_a_slot_beside_any_number_of_long_ones(settings: Make) -> None:
    engine = Engine(settings(SERVER__MAX_CONCURRENCY="4", SERVER__MAX_QUEUE="0"), Reader())
    engine.runtime.hold = True
    files = [
        asyncio.create_task(engine.transcribe(counting(90), TranscribeOptions("fr"), CALL)) for _ in range(4)
    ]
    await asyncio.sleep(0.3)
    assert engine.runtime.running == 3
    clip = asyncio.create_task(engine.transcribe(counting(3), TranscribeOptions(), CALL))
    await asyncio.sleep(0.05)
    assert engine.runtime.running == 4
    with pytest.raises(Busy, match="the node is full"):
        await engine.transcribe(counting(90), TranscribeOptions(), CALL)
    engine.runtime.hold = False
    await asyncio.gather(clip, *files)
    await engine.close()


async def test_the_failure_of_a_window_fails_the_recording_and_names_the_place(engine: Engine) -> None:
    work = engine.runtime._work
    numbers = itertools.count(1)

    async def fail_the_third(call: Call) -> None:
        number = next(numbers)
        await work(call)
        if number == 3:
            raise RuntimeFailed("model asr failed")

    engine.runtime._work = fail_the_third
    with pytest.raises(RuntimeFailed, match=r"from \d+\.\d to \d+\.\d s of the recording: model asr failed"):
        await engine.transcribe(counting(200), TranscribeOptions(), CALL)
    assert (engine.admission.running, engine.recordings.running) == (0, 0)


async def test_a_client_that_leaves_cancels_the_windows_in_flight(engine: Engine) -> None:
    engine.runtime.hold = True
    running = asyncio.create_task(engine.transcribe(counting(600), TranscribeOptions("fr"), CALL))
    await asyncio.sleep(0.3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert engine.runtime.cancelled == 3
    assert (engine.admission.running, engine.admission.waiting, engine.recordings.running) == (0, 0, 0)


async def test_the_time_limit_is_a_windows_not_the_recordings(settings: Make) -> None:
    engine = Engine(settings(AI__MODELS__ASR__TIMEOUT="0.5", AI__MODELS__ASR__WINDOWS_AT_ONCE="1"), Reader())
    engine.runtime.delay = 0.1
    await engine.transcribe(counting(300), TranscribeOptions(), CALL)  # a second and more
    with pytest.raises(RuntimeTimeout, match=r"the recording took longer than 0\.3 s"):
        await engine.transcribe(counting(300), TranscribeOptions(), Call("test", timeout=0.3))
    engine.runtime.delay = 1.0
    with pytest.raises(RuntimeTimeout, match=r"from 0\.0 to .* longer than 0\.5 s"):
        await engine.transcribe(counting(300), TranscribeOptions(), CALL)
    await engine.close()


async def test_a_recording_has_a_time_limit_of_its_own(settings: Make) -> None:
    engine = Engine(settings(AI__REQUEST__RECORDING_TIMEOUT="0.3"), Reader())
    engine.runtime.delay = 0.1
    with pytest.raises(RuntimeTimeout, match=r"the recording took longer than 0\.3 s"):
        await engine.transcribe(counting(1200), TranscribeOptions(), CALL)
    await engine.close()


async def test_a_runtime_without_windows_gets_the_whole_recording(engine: Engine) -> None:
    engine.runtime.window_seconds = None
    await engine.run(Task.ASR, audio=counting(200), call=CALL)
    assert [audio.seconds for audio in engine.runtime.audios] == [200]
