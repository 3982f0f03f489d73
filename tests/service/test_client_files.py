"""`speech` with several recordings, formats, tasks, files of results and a microphone."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.progress import Progress

from inference_service import __version__
from inference_service.client import batch, outputs, progress
from inference_service.client.outputs import WrongArguments
from inference_service.tasks import DetailedTranscript, Segment, Transcript
from tests.ports import free_port
from tests.service.conftest import Service
from tests.service.test_client import Run, grpc_address, recording, speech  # noqa: F401


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    """One and two seconds of silence, in two files."""
    paths = [tmp_path / "one.wav", tmp_path / "two.flac"]
    for seconds, path in enumerate(paths, 1):
        soundfile.write(path, np.zeros(16000 * seconds), 16000)
    return paths


@pytest.fixture
def timed(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The service, whose answers have the times of a segment."""

    async def transcribe(audio: Any, options: Any, call: Any) -> DetailedTranscript:
        segment = Segment(0, 0.0, 0.9, "Ask not.", -0.1, 0.0)
        return DetailedTranscript(Transcript("Ask not.", 0.9, "en", audio.duration_ms), [segment])

    monkeypatch.setattr(service.runtime, "transcribe", transcribe)
    return service


def test_the_texts_of_several_recordings_have_their_names(
    speech: Run,
    service: Service,
    recordings: list[Path],
) -> None:
    status, output, errors = speech(*recordings, "--url", service.url)
    one, two = recordings
    assert (status, errors) == (0, "")
    assert output == f"{one}: 16000 samples at 16000 Hz\n{two}: 32000 samples at 16000 Hz\n"


def test_json_of_several_recordings_has_their_names(
    speech: Run,
    service: Service,
    recordings: list[Path],
) -> None:
    _, output, _ = speech(*recordings, "--url", service.url, "--json")
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(each["file"], each["duration_ms"]) for each in lines] == [
        (str(recordings[0]), 1000),
        (str(recordings[1]), 2000),
    ]


def test_a_recording_that_fails_does_not_lose_the_others(
    speech: Run,
    service: Service,
    recordings: list[Path],
    tmp_path: Path,
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("these are words and no recording " * 100)
    status, output, errors = speech(recordings[0], notes, recordings[1], "--url", service.url)
    assert status == batch.FAILED
    assert len(output.splitlines()) == 2
    assert len(errors.splitlines()) == 2, errors
    refused, count = errors.splitlines()
    assert "its format is not recognised" in refused
    assert "ffmpeg -i FILE file.wav" in refused
    assert count == "speech: 1 of 3 recordings failed"


@pytest.mark.parametrize("trouble", ["away", "wrong key"])
def test_what_fails_for_every_recording_is_said_once(
    speech: Run,
    serve: Callable[..., Service],
    recordings: list[Path],
    trouble: str,
) -> None:
    url = f"http://127.0.0.1:{free_port()}" if trouble == "away" else serve(SERVER__API_KEYS="right-key").url
    status, output, errors = speech(*recordings, "--url", url, "--api-key", "wrong-key")
    first, left, _ = errors.splitlines()
    assert output == ""
    assert left == f"speech: not sent: {recordings[1]}"
    if trouble == "away":
        assert status == batch.TRY_LATER
        assert first.endswith("or name its address: --url http://HOST:8080 (SPEECH_URL)")
    else:
        assert status == batch.FAILED
        assert first.endswith("SPEECH_API_KEY=KEY in the environment, or --api-key KEY")


def test_the_key_and_the_address_come_from_the_environment(
    speech: Run,
    serve: Callable[..., Service],
    recording: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = serve(SERVER__API_KEYS="right-key")
    monkeypatch.setenv("SPEECH_API_KEY", "right-key\n")
    monkeypatch.setenv("SPEECH_URL", service.url)
    assert speech(recording)[:2] == (0, "48000 samples at 16000 Hz\n")


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_emotion_and_synthesis_are_answered(
    speech: Run,
    service: Service,
    grpc_address: str,
    recording: Path,
    over: str,
) -> None:
    way = ["--url", service.url] if over == "http" else ["--grpc", grpc_address]
    assert speech(recording, "--task", "emotion", *way)[1] == "neutral (confidence 0.75)\n"
    assert speech(recording, "--task", "synthesis", *way)[1] == "human (confidence 0.75)\n"
    _, output, _ = speech(recording, "--task", "emotion", "--json", *way)
    assert json.loads(output)["emotions"]["happy"] == 0.25


@pytest.mark.parametrize(
    ("kind", "start"), [("srt", "1\n00:00:00,000 --> 00:00:0"), ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:0")]
)
def test_subtitles_go_beside_the_recordings(
    speech: Run,
    timed: Service,
    recordings: list[Path],
    kind: str,
    start: str,
) -> None:
    status, output, errors = speech(*recordings, "--url", timed.url, "--format", kind, "--beside")
    assert (status, output) == (0, "")
    for path in recordings:
        written = path.with_suffix(f".{kind}")
        assert f"{path} → {written}" in errors
        assert written.read_text().startswith(start)
        assert "Ask not." in written.read_text()


def test_results_that_are_there_are_not_replaced_without_force(
    speech: Run,
    service: Service,
    recording: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "new" / "texts"
    words = (recording, "--url", service.url, "--output-dir", folder)
    assert speech(*words)[0] == 0
    target = folder / "speech.txt"
    assert target.read_text() == "48000 samples at 16000 Hz\n"
    target.write_text("corrected by hand")
    status, _, errors = speech(*words)
    assert (status, target.read_text()) == (batch.FAILED, "corrected by hand")
    assert "exists already. To write it anew: --force" in errors
    assert speech(*words, "--force")[0] == 0
    assert target.read_text() == "48000 samples at 16000 Hz\n"
    assert [each.name for each in folder.iterdir()] == ["speech.txt"]


def test_a_stream_is_written_to_a_file_too(
    speech: Run,
    service: Service,
    recording: Path,
    tmp_path: Path,
) -> None:
    speech(recording, "--url", service.url, "--partial", "0", "--output-dir", tmp_path / "texts")
    assert (tmp_path / "texts" / "speech.txt").read_text() == "48000 samples at 16000 Hz\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["a.wav"], ["t/a.txt"]),
        (["a.wav", "a.mp3"], ["t/a.wav.txt", "t/a.mp3.txt"]),
        (["d/a.wav", "e/b.wav"], ["t/a.txt", "t/b.txt"]),
    ],
)
def test_each_recording_has_a_file_of_its_own(files: list[str], expected: list[str]) -> None:
    assert outputs.targets(files, "txt", Path("t"), beside=False) == [Path(each) for each in expected]


def test_a_result_never_replaces_its_recording() -> None:
    assert outputs.targets(["d/a.txt"], "txt", None, beside=True) == [Path("d/a.txt.txt")]


def test_two_recordings_of_one_name_are_refused() -> None:
    with pytest.raises(WrongArguments, match=r"t/a\.wav\.txt would be the result of two"):
        outputs.targets(["d/a.wav", "e/a.wav"], "txt", Path("t"), beside=False)


def test_a_file_that_cannot_be_written_is_named(
    speech: Run,
    service: Service,
    recording: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "folder").write_text("a file")
    status, _, errors = speech(recording, "--url", service.url, "--output-dir", tmp_path / "folder")
    assert (status, "speech.txt: cannot be written: " in errors) == (batch.FAILED, True)


def test_the_version_is_printed(speech: Run) -> None:
    assert speech("--version") == (0, f"speech {__version__}\n", "")


def test_a_terminal_shows_how_far_a_long_recording_has_come(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.random.default_rng(1).normal(0, 0.1, 16000 * 70), 16000)
    reached: list[float] = []
    monkeypatch.setattr(progress.Bar, "heard", lambda self, seconds: reached.append(seconds))
    reading, writing = os.openpty()
    with os.fdopen(writing, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        display = batch.Display(sys.stdout, terminal, as_json=False)
        job = batch.Job("asr", "txt", batch.Entrance(service.url))
        assert batch.run(job, [str(path)], [None], display) == 0
        shown = os.read(reading, 100_000).decode()
    os.close(reading)
    assert len(reached) >= 3
    assert reached[-1] == pytest.approx(70, abs=1)
    assert "long.wav" in shown


def test_the_remaining_time_follows_from_the_speed_so_far() -> None:
    now = 0.0
    shown = Progress(get_time=lambda: now)
    bar = progress.Bar(shown, shown.add_task("sending"), "long.wav", 300.0)
    [task] = shown.tasks
    bar.sent(1.0)
    assert progress.Remaining().render(task).plain == ""
    now = 30.0
    bar.heard(100.0)
    assert progress.Remaining().render(task).plain == "1:00 left"
    now = 50.0
    assert progress.Remaining().render(task).plain == "0:40 left"


def test_the_length_of_a_recording_is_known_before_it_is_sent(recording: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no recording")
    os.mkfifo(tmp_path / "pipe")
    assert progress.length(recording) == pytest.approx(3.0)
    assert progress.length(notes) is None
    assert progress.length(tmp_path / "pipe") is None


class _PortAudio(types.ModuleType):
    """Stands for sounddevice where no microphone is: hears silence, a tenth of a second at a time."""

    class PortAudioError(Exception):
        pass

    def __init__(self, rate: int = 44100) -> None:
        super().__init__("sounddevice")
        self.rate = rate
        self.is_open = False

    def query_devices(self, device: object, kind: str) -> dict[str, float]:
        if device == "none":
            raise ValueError("No input device matching 'none'")
        return {"default_samplerate": float(self.rate)}

    def pull_out(self) -> None:
        """The stream ends by itself."""
        self.is_open = False
        self.finished()

    def RawInputStream(
        self, *, samplerate: int, callback: Any, finished_callback: Callable[[], None], **_: object
    ) -> Any:
        self.finished = finished_callback

        def hear() -> None:
            while self.is_open:
                callback(bytes(2 * samplerate // 10), samplerate // 10, None, None)
                time.sleep(0.02)

        def start() -> None:
            self.is_open = True
            threading.Thread(target=hear, daemon=True).start()

        def abort() -> None:
            self.is_open = False
            finished_callback()

        return types.SimpleNamespace(start=start, abort=abort, close=lambda: None)


def test_the_microphone_is_heard_until_ctrl_c_and_the_rest_recognised(
    speech: Run,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = _PortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    former = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        service.wait_until(lambda: service.engine.streams.open > 0)
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    status, output, errors = speech("--microphone", "--url", service.url, "--partial", "0")
    thread.join()
    assert (status, errors) == (0, "")
    assert "samples at" in output
    assert not library.is_open
    assert signal.getsignal(signal.SIGINT) is former


def test_a_microphone_that_is_pulled_out_ends_with_its_text_and_the_reason(
    speech: Run,
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had waited for more without a word, until Ctrl-C."""
    library = _PortAudio()
    monkeypatch.setitem(sys.modules, "sounddevice", library)

    def pull_out() -> None:
        service.wait_until(lambda: service.engine.streams.open > 0)
        time.sleep(0.3)
        library.pull_out()

    thread = threading.Thread(target=pull_out)
    thread.start()
    status, output, errors = speech("--microphone", "--url", service.url, "--partial", "0")
    thread.join()
    assert status == batch.FAILED
    assert "samples at" in output
    assert "the microphone is gone" in errors


@pytest.mark.parametrize(
    ("library", "device", "said"),
    [
        (None, None, "needs the package sounddevice. Install it: pip install"),
        (
            _PortAudio(),
            "none",
            "the microphone none cannot be used: No input device matching 'none'. python -m",
        ),
    ],
)
def test_a_missing_microphone_says_what_helps(
    speech: Run,
    monkeypatch: pytest.MonkeyPatch,
    library: Any,
    device: str | None,
    said: str,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    status, output, errors = speech("--microphone", *(["--device", device] if device else []))
    assert (status, output) == (batch.FAILED, "")
    assert said in errors
