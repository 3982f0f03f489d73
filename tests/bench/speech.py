"""The speech model beside faster-whisper in one process: throughput, short clips beside long files, words.

    .venv/bin/python -m tests.bench.speech speed            # tiny.en
    .venv/bin/python -m tests.bench.speech words SOUNDS     # base, five languages

SOUNDS is a folder with Debian's packages asterisk-core-sounds-{en,es,fr,it,ru} and -wav unpacked (`/usr`
where they are installed). Times are of one run on one machine: only their ratios mean something.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import statistics
import subprocess
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jiwer
import numpy as np
import soundfile
import soxr
import tritonclient.grpc
from numpy.typing import NDArray

from tests.triton_server import MODEL_REPOSITORY, MODELS_VENV, ROOT, triton_server

RATE = 16000
IN_FLIGHT = 4
LANGUAGES = ("en", "es", "fr", "it", "ru")


class Model:
    """The speech model in Triton, as a client sees it."""

    def __init__(self, address: str) -> None:
        self._client = tritonclient.grpc.InferenceServerClient(address)

    def transcribe(
        self, audio: NDArray, language: str | None = None, priority: int = 2
    ) -> tuple[str, str, float]:
        """The text, the language and how long it took in seconds."""
        options = json.dumps({"priority": priority})
        inputs = [tritonclient.grpc.InferInput("audio_input", (1, audio.size), "FP32")]
        inputs[0].set_data_from_numpy(audio[None])
        for name, text in (("language", language or "auto"), ("options", options)):
            tensor = tritonclient.grpc.InferInput(name, (1, 1), "BYTES")
            tensor.set_data_from_numpy(np.array([[text.encode()]], object))
            inputs.append(tensor)
        began = time.perf_counter()
        result = self._client.infer("asr", inputs, priority=priority)
        seconds = time.perf_counter() - began
        text, heard = (result.as_numpy(name)[0, 0].decode() for name in ("text", "language"))
        return text, heard, seconds

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
        self._process = subprocess.Popen(
            [python, ROOT / "tests" / "bench" / "whisper_in_process.py", found, str(_cores())],
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
            yield Model(f"127.0.0.1:{ports.grpc}"), other
        other.close()


def speed(rounds: int, minutes: float, clips_beside: int) -> None:
    """Throughput over faster-whisper's, and a 3 s clip beside a long file; tiny.en."""
    speech = read(ROOT / "recordings" / "inaugural-1961.flac")
    pause = np.zeros(RATE // 2, np.float32)
    clips = [np.roll(np.concatenate([speech, pause, speech]), -n * RATE)[: 20 * RATE] for n in range(16)]
    file = np.concatenate([speech, pause] * int(minutes * 60 * RATE / (speech.size + pause.size)))
    # Two repetitions and their pauses: windows that begin and end in pauses, as the service cuts them.
    windows = [file[start : start + 2 * 184000] for start in range(0, file.size, 2 * 184000)]
    with both("tiny.en") as (model, other):
        model.transcribe(speech)
        other.transcribe([speech], "en")
        times: dict[str, list[float]] = {}

        def timed(name: str, seconds: float) -> None:
            times.setdefault(name, []).append(seconds)
            print(f"{name:28} {seconds:7.2f} s", flush=True)

        for _ in range(rounds):
            began = time.perf_counter()
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda clip: model.transcribe(clip, "en"), clips))
            timed("clips, model", time.perf_counter() - began)
            timed("clips, in process", other.transcribe(clips, "en")[2])
            began = time.perf_counter()
            model.transcribe_windows(windows)
            timed("file as windows, model", time.perf_counter() - began)
            timed("file, in process", other.transcribe([file], "en")[2])
            timed("file as one request, model", model.transcribe(file, "en", 3)[2])
        alone = [model.transcribe(speech[: 3 * RATE], "en")[2] for _ in range(clips_beside)]
        stop = threading.Event()
        long = threading.Thread(target=model.transcribe_windows, args=(windows * 20, stop))
        long.start()
        time.sleep(1)
        beside = [model.transcribe(speech[: 3 * RATE], "en")[2] for _ in range(clips_beside)]
        stop.set()
        long.join()
        again = [model.transcribe(speech[: 3 * RATE], "en")[2] for _ in range(clips_beside)]
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    print(f"16 clips of 20 s             {middle['clips, in process'] / middle['clips, model']:.2f} times")
    for name in ("file as windows, model", "file as one request, model"):
        print(f"{name:28} {middle['file, in process'] / middle[name]:.2f} times")
    for name, seconds in (("alone", alone), ("beside the file", beside), ("alone again", again)):
        print(f"3 s clip {name:19} p50 {statistics.median(seconds):.2f} s, p95 {p95(seconds):.2f} s")
    print(f"p95 beside over alone        {p95(beside) / max(p95(alone), p95(again)):.2f}")


def words(sounds: Path, count: int) -> None:
    """Word error rate and language of recorded prompts, language not given; base."""
    with both("base") as (model, other):
        for language in LANGUAGES:
            clips, texts = zip(*prompts(sounds, language, count), strict=True)
            with ThreadPoolExecutor(4) as pool:
                ours = list(pool.map(model.transcribe, clips))
            theirs, their_languages, _ = other.transcribe(clips, None)
            for name, heard, languages in (
                ("model", [each[0] for each in ours], [each[1] for each in ours]),
                ("in process", theirs, their_languages),
            ):
                rate = jiwer.wer([plain(text) for text in texts], [plain(text) for text in heard])
                right = sum(each == language for each in languages)
                print(
                    f"{language} {name:11} word error rate {rate:.3f}, language {right}/{len(clips)}",
                    flush=True,
                )


def prompts(sounds: Path, language: str, count: int) -> list[tuple[NDArray, str]]:
    """`count` recorded prompts of some length and what is said in them, the same at each run."""
    (index,) = (sounds / "share" / "doc").glob(f"*-{language}/core-sounds-{language}.txt.gz")
    folders = list((sounds / "share" / "asterisk" / "sounds").glob(f"{language}*"))
    found = []
    for line in gzip.decompress(index.read_bytes()).decode(errors="replace").splitlines():
        name, _, text = line.partition(":")
        wanted = len(text.split()) >= 6 and not re.search(r"[\[\](<>;]|\d", line)
        path = next((f / f"{name}.wav" for f in folders if (f / f"{name}.wav").is_file()), None)
        if wanted and path is not None:
            found.append((path, text.strip()))
    chosen = random.Random(1).sample(found, min(count, len(found)))
    return [(read(path), text) for path, text in chosen]


def read(path: Path) -> NDArray[np.float32]:
    """Mono 16 kHz samples."""
    samples, rate = soundfile.read(path, dtype="float32")
    return samples if rate == RATE else soxr.resample(samples, rate, RATE)


def plain(text: str) -> str:
    """Words alone: no case, no punctuation."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text.lower())).strip()


def p95(seconds: Sequence[float]) -> float:
    return float(np.percentile(seconds, 95))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.speech", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    fast = commands.add_parser("speed")
    fast.add_argument("--rounds", type=int, default=3)
    fast.add_argument("--minutes", type=float, default=10)
    fast.add_argument("--clips", type=int, default=20, help="3 s clips alone, and beside the file")
    right = commands.add_parser("words")
    right.add_argument("sounds", type=Path)
    right.add_argument("--count", type=int, default=40)
    asked = parser.parse_args()
    if asked.command == "speed":
        speed(asked.rounds, asked.minutes, asked.clips)
    else:
        words(asked.sounds, asked.count)


if __name__ == "__main__":
    main()
