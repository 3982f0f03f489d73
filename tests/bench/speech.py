"""The speech model beside faster-whisper in one process: throughput, short clips beside long files.

Both run on the same weights in one run, in turns. Times are of one machine: only their ratios mean something.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
import soxr
import tritonclient.grpc
from numpy.typing import NDArray

from infra.embedded.triton import find_installation
from tests.bench.row import Row
from tests.triton_server import MODEL_REPOSITORY, MODELS_VENV, ROOT, triton_server

RATE = 16000
IN_FLIGHT = 4


class Model:
    """The speech model in Triton, as a client sees it. `folder`: that of `triton_server`."""

    def __init__(self, address: str, folder: Path) -> None:
        self._folder = folder
        self._client = tritonclient.grpc.InferenceServerClient(address)

    def transcribe(
        self, audio: NDArray, language: str | None = None, priority: int = 2
    ) -> tuple[str, str, float]:
        """The text, the language and how long it took in seconds."""
        began = time.perf_counter()
        result = self._client.infer("asr", self._inputs(audio, language, priority), priority=priority)
        seconds = time.perf_counter() - began
        text, heard = (result.as_numpy(name)[0, 0].decode() for name in ("text", "language"))
        return text, heard, seconds

    def start(self, audio: NDArray, priority: int) -> Any:
        """Send a request and go on. The call that is returned can be cancelled."""
        inputs = self._inputs(audio, "en", priority)
        return self._client.async_infer("asr", inputs, lambda result, error: None, priority=priority)

    def memory(self) -> int:
        """Bytes of the model's process."""
        for process in psutil.process_iter(["cmdline"]):
            command = " ".join(process.info["cmdline"] or ())
            if str(self._folder) in command and "/asr/1/model.py" in command:
                return int(process.memory_full_info().pss)
        raise RuntimeError("the model's process was not found")

    @staticmethod
    def _inputs(audio: NDArray, language: str | None, priority: int) -> list[Any]:
        options = json.dumps({"priority": priority})
        inputs = [tritonclient.grpc.InferInput("audio_input", (1, audio.size), "FP32")]
        inputs[0].set_data_from_numpy(audio[None])
        for name, text in (("language", language or "auto"), ("options", options)):
            tensor = tritonclient.grpc.InferInput(name, (1, 1), "BYTES")
            tensor.set_data_from_numpy(np.array([[text.encode()]], object))
            inputs.append(tensor)
        return inputs

    def transcribe_windows(self, windows: Sequence[NDArray], stop: threading.Event | None = None) -> str:
        """A long file as the service sends it: windows, some in flight."""
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            texts = pool.map(
                lambda each: "" if stop and stop.is_set() else self.transcribe(each, priority=3)[0], windows
            )
            return " ".join(texts)


class InProcess:
    """faster-whisper in a process of its own; see `whisper_in_process.py`."""

    def __init__(self, weights: str, folder: Path) -> None:
        self._folder = folder
        finder = (
            "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import weights; "
            "print(weights.find_weights(sys.argv[2], Path()))"
        )
        python = MODELS_VENV / "bin" / "python"
        found = subprocess.run(
            [python, "-c", finder, MODEL_REPOSITORY / "asr" / "1", weights],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        libraries = find_installation(MODELS_VENV).library_folders
        self._process = subprocess.Popen(
            [python, ROOT / "tests" / "bench" / "whisper_in_process.py", found, str(_cores())],
            env={**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def transcribe(
        self, clips: Sequence[NDArray], language: str | None
    ) -> tuple[list[str], list[str], float]:
        """Texts, languages and the wall time of all in seconds."""
        paths = []
        for number, clip in enumerate(clips):
            paths.append(str(self._folder / f"{number}.npy"))
            np.save(paths[-1], clip)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"audio": paths, "language": language}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return answer["texts"], answer["languages"], answer["seconds"]

    def close(self) -> None:
        self._process.communicate()


@contextmanager
def both(weights: str) -> Iterator[tuple[Model, InProcess]]:
    """The model in a real Triton and faster-whisper in one process, on the same weights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = InProcess(weights, folder)
        with triton_server(folder, models=["asr"], environment={"ASR_MODEL_PATH": weights}) as ports:
            yield Model(f"127.0.0.1:{ports.grpc}", folder), other
        other.close()


def recognition(weights: str, *, rounds: int = 3, minutes: float = 10, clips_beside: int = 20) -> list[Row]:
    """Rows of one set of weights. The goals are those of tiny.en."""
    goals: dict[str, float | None] = {"clips": 1.2, "file": 0.95, "beside": 2.5, "left": 1.5}
    if weights != "tiny.en":
        goals = dict.fromkeys(goals)
    speech = read(ROOT / "recordings" / "inaugural-1961.flac")
    pause = np.zeros(RATE // 2, np.float32)
    clips = [np.roll(np.concatenate([speech, pause, speech]), -n * RATE)[: 20 * RATE] for n in range(16)]
    file = np.concatenate([speech, pause] * int(minutes * 60 * RATE / (speech.size + pause.size)))
    # Two repetitions and their pauses: windows that begin and end in pauses, as the service cuts them.
    windows = [file[start : start + 2 * 184000] for start in range(0, file.size, 2 * 184000)]
    with both(weights) as (model, other):
        model.transcribe(speech)
        other.transcribe([speech], "en")
        rows = _throughput(model, other, clips, file, windows, weights, goals, rounds)
        rows += _short_clips(model, speech[: 3 * RATE], file, windows, weights, goals, clips_beside)
        megabytes = model.memory() / 1e6
        rows.append(
            Row(f"{weights}: memory of the model in MB", f"{megabytes:.0f} MB", megabytes, None, "less")
        )
    return rows


def _throughput(
    model: Model,
    other: InProcess,
    clips: Sequence[NDArray],
    file: NDArray,
    windows: Sequence[NDArray],
    weights: str,
    goals: dict[str, float | None],
    rounds: int,
) -> list[Row]:
    """Audio seconds per second over faster-whisper's, of many clips at once and of one long file."""
    times: dict[str, list[float]] = {
        "clips": [],
        "file": [],
        "whole": [],
        "their clips": [],
        "their file": [],
    }
    for _ in range(rounds):
        began = time.perf_counter()
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda clip: model.transcribe(clip, "en"), clips))
        times["clips"].append(time.perf_counter() - began)
        times["their clips"].append(other.transcribe(clips, "en")[2])
        began = time.perf_counter()
        model.transcribe_windows(windows)
        times["file"].append(time.perf_counter() - began)
        times["their file"].append(other.transcribe([file], "en")[2])
        times["whole"].append(model.transcribe(file, "en", 3)[2])
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    return [
        Row(
            f"{weights}: {name}, over faster-whisper's",
            f"{middle[ours]:.1f} s, faster-whisper {middle[theirs]:.1f} s",
            middle[theirs] / middle[ours],
            goals[goal],
            "more",
        )
        for name, ours, theirs, goal in (
            ("16 clips of 20 s at once", "clips", "their clips", "clips"),
            (f"a file of {file.size / RATE / 60:.0f} min, in windows", "file", "their file", "file"),
            (f"a file of {file.size / RATE / 60:.0f} min, one request", "whole", "their file", "file"),
        )
    ]


def _short_clips(
    model: Model,
    clip: NDArray,
    file: NDArray,
    windows: Sequence[NDArray],
    weights: str,
    goals: dict[str, float | None],
    count: int,
) -> list[Row]:
    """The time of a 3 s clip beside a long file, and after the client of such a file has left, over its time
    alone."""
    alone = [model.transcribe(clip, "en")[2] for _ in range(count)]
    stop = threading.Event()
    long = threading.Thread(target=model.transcribe_windows, args=([*windows] * 20, stop))
    long.start()
    time.sleep(1)
    beside = [model.transcribe(clip, "en")[2] for _ in range(count)]
    stop.set()
    long.join()
    left = []
    for _ in range(5):
        call = model.start(file, priority=3)
        time.sleep(1)
        call.cancel()
        left.append(model.transcribe(clip, "en")[2])
        time.sleep(1)
    alone += [model.transcribe(clip, "en")[2] for _ in range(count)]
    usual = statistics.median(alone)
    return [
        Row(
            f"{weights}: p95 of a 3 s clip beside a long file, over alone",
            f"{p95(beside):.2f} s, alone {p95(alone):.2f} s",
            p95(beside) / p95(alone),
            goals["beside"],
            "less",
        ),
        Row(
            f"{weights}: 3 s clip after a client left a long file",
            f"{statistics.median(left):.2f} s, usually {usual:.2f} s",
            statistics.median(left) / usual,
            goals["left"],
            "less",
        ),
    ]


def read(path: Path) -> NDArray[np.float32]:
    """Mono 16 kHz samples."""
    samples, rate = soundfile.read(path, dtype="float32")
    return samples if rate == RATE else soxr.resample(samples, rate, RATE)


def p95(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 95))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
