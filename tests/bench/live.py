"""Live speech through the service with tiny.en: how late the text is, alone, with eight streams, with a file.

    .venv/bin/python -m tests.bench.live                              # four minutes
    .venv/bin/python -m tests.bench.live --rounds 1 --without-file    # half a minute

All measurements take turns on one machine: compare them with each other. Every stream is paced as it is
spoken; each begins at another place of the recording.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
import soundfile

from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from tests.bench.row import Row, show
from tests.bench.service import service
from tests.ports import free_port
from tests.triton_server import ROOT, triton_server

STREAMS = 8
ROUNDS = 3

#: Seconds of speech in a stream, of a chunk, and between partial results.
_SECONDS = 12
_CHUNK = 0.1
_INTERVAL_MS = 500

#: Seconds between the beginnings of two streams: people do not begin to speak at once.
_APART = 0.35


@dataclass(frozen=True)
class Heard:
    """Of one stream, in seconds: from its first audio to the first text, from its last audio to the last."""

    first: float
    last: float
    partials: int


def live(rounds: int = ROUNDS, *, with_file: bool = True) -> list[Row]:
    """The rows of live speech; those beside a file take as long as the others together."""
    samples, rate = soundfile.read(ROOT / "recordings" / "inaugural-1961.flac", dtype="int16")
    off = {"AI__MODELS__EMOTION__ENABLED": "false", "AI__MODELS__SYNTHESIS__ENABLED": "false"}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="live-")))
        triton = folder / "triton"
        triton.mkdir()
        weights = {"ASR_MODEL_PATH": "tiny.en"}
        ports = stack.enter_context(triton_server(triton, models=["asr"], environment=weights))
        grpc_port = free_port()
        _, http = stack.enter_context(service(folder, ports.grpc, SERVER__GRPC_PORT=str(grpc_port), **off))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{grpc_port}"))
        stub = AIServiceStub(channel)
        file = folder / "file.wav"
        soundfile.write(file, np.resize(samples, 600 * rate), rate)

        _streams(stub, samples, rate, 1)
        one: list[Heard] = []
        eight: list[Heard] = []
        beside: list[Heard] = []
        shares: list[float] = []
        for _ in range(rounds):
            before = _cpu_seconds()
            one += _streams(stub, samples, rate, 1)
            shares.append((_cpu_seconds() - before) / _SECONDS)
            eight += _streams(stub, samples, rate, STREAMS)
            if not with_file:
                continue
            with _Transcribed(http, file):
                time.sleep(1.0)
                beside += _streams(stub, samples, rate, STREAMS)
        rows = [
            _late("live: final text after the end, 1 stream, s", [each.last for each in one], 0.8),
            _late("live: final text after the end, 8 streams, s", [each.last for each in eight], 2.0),
            _late("live: first partial, 8 streams, s", [each.first for each in eight], None),
        ]
        if with_file:
            rows += [
                _late("live: first partial, 8 streams and a file, s", [each.first for each in beside], 1.5),
                _late("live: final text, 8 streams and a file, s", [each.last for each in beside], None),
            ]
        partials = f"{one[0].partials} partial results"
        share = statistics.median(shares)
        return [*rows, Row("live: share of a core, 1 stream", partials, share, 0.64, "less")]


class _Transcribed:
    """A file that is being transcribed, again and again, until the block ends."""

    def __init__(self, port: int, path: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1/ai/asr"
        self._body = path.read_bytes()
        self._stop = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()

    def _run(self) -> None:
        while not self._stop:
            request = urllib.request.Request(self._url, self._body, {"Content-Type": "audio/wav"})
            with urllib.request.urlopen(request, timeout=300) as answer:
                answer.read()


def _late(name: str, seconds: Sequence[float], goal: float | None) -> Row:
    """A row of the slowest but one in twenty."""
    slow = float(np.percentile(seconds, 95))
    return Row(name, f"p50 {statistics.median(seconds):.2f} s, p95 {slow:.2f} s", slow, goal, "less")


def _streams(stub: AIServiceStub, samples: np.ndarray, rate: int, count: int) -> list[Heard]:
    def one(number: int) -> Heard:
        time.sleep(number * _APART)
        audio = np.roll(np.resize(samples, _SECONDS * rate), -number * rate)
        return _stream(stub, audio, rate)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def _stream(stub: AIServiceStub, samples: np.ndarray, rate: int) -> Heard:
    size = round(_CHUNK * rate)
    begun = time.perf_counter()
    ended = begun + len(samples) / rate

    def chunks():
        for sequence, start in enumerate(range(0, len(samples), size), 1):
            # A microphone delivers a chunk after its last sample.
            time.sleep(max(0.0, begun + sequence * _CHUNK - time.perf_counter()))
            last = start + size >= len(samples)
            data = samples[start : start + size].tobytes()
            yield pb.AudioChunk(data=data, sequence=sequence, sample_rate=rate, is_final=last)

    results = stub.StreamAudioProcessing(chunks(), metadata=(("flush-interval-ms", str(_INTERVAL_MS)),))
    first, partials, text = None, 0, ""
    for result in results:
        said = json.loads(result.result_data)["text"]
        partials += not result.is_final
        if said and first is None:
            first = time.perf_counter() - begun
        if result.is_final:
            text += said
    if first is None or not text:
        raise RuntimeError("no text came")
    return Heard(first, time.perf_counter() - ended, partials)


def _cpu_seconds() -> float:
    """Processor time of the service and of Triton, with its models: this process started both."""
    total = 0.0
    for each in psutil.Process().children(recursive=True):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each measurement")
    parser.add_argument("--without-file", action="store_true", help="leave out what runs beside a file")
    arguments = parser.parse_args()
    show(live(arguments.rounds, with_file=not arguments.without_file))
