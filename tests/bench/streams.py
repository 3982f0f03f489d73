"""Live audio over gRPC: the cost of a stream against a whole file, the time to the first text, the cost of a
call."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import soundfile

from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from tests.bench.load import triton_connection, waveform
from tests.bench.row import Row
from tests.triton_server import ROOT

#: Seconds of audio in a chunk.
_CHUNK = 0.1
_FLUSH_INTERVAL_MS = 500


def unary(triton: int, grpc_port: int, duration: float) -> list[Row]:
    """The time that ProcessAudioData adds to one direct call with 1 s of audio, over one connection."""
    request = pb.ProcessAudioDataRequest(
        audio_data=waveform(1).tobytes(), format="pcm", sample_rate=16000, tasks=["emotion"]
    )
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        stub = AIServiceStub(channel)
        through = _p50(lambda: stub.ProcessAudioData(request), duration)
    plain = _p50(triton_connection(triton, 1), duration)
    measured = f"p50 {1000 * through:.2f} ms, direct {1000 * plain:.2f} ms"
    return [Row("added latency in ms, gRPC unary", measured, 1000 * (through - plain), 2.0, "less")]


def streams(grpc_port: int) -> list[Row]:
    """A minute of speech as a stream against the same as one file, and the time to the first text of a live
    stream."""
    samples, rate = soundfile.read(ROOT / "recordings" / "inaugural-1961.flac", dtype="int16")
    minute = np.resize(samples, 60 * rate)
    with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        stub = AIServiceStub(channel)
        whole = min(_timed(lambda: _whole(stub, minute, rate)) for _ in range(3))
        streamed = min(_timed(lambda: _streamed(stub, minute, rate)) for _ in range(3))
        first = statistics.median(_first_partial(stub, samples, rate) for _ in range(3))
    return [
        Row(
            "streamed audio a second, of whole-file",
            f"{60 / streamed:.0f} s/s of {60 / whole:.0f} s/s",
            whole / streamed,
            0.30,
            "more",
        ),
        Row(
            "first partial text in s",
            f"{first:.2f} s after the first sound",
            first,
            _FLUSH_INTERVAL_MS / 1000 + 0.5,
            "less",
        ),
    ]


def _p50(once: Callable[[], object], duration: float) -> float:
    for _ in range(5):
        once()
    taken = []
    end = time.perf_counter() + duration
    while time.perf_counter() < end:
        taken.append(_timed(once))
    return statistics.median(taken)


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _whole(stub: AIServiceStub, samples: np.ndarray, rate: int) -> None:
    stub.ProcessAudioData(
        pb.ProcessAudioDataRequest(audio_data=samples.tobytes(), format="pcm", sample_rate=rate)
    )


def _chunks(samples: np.ndarray, rate: int, pace: float = 0.0) -> Iterator[pb.AudioChunk]:
    size = round(_CHUNK * rate)
    begun = time.perf_counter()
    for sequence, start in enumerate(range(0, len(samples), size), 1):
        # A microphone delivers a chunk after its last sample.
        time.sleep(max(0.0, begun + pace * sequence * _CHUNK - time.perf_counter()))
        yield pb.AudioChunk(data=samples[start : start + size].tobytes(), sequence=sequence, sample_rate=rate)


def _streamed(stub: AIServiceStub, samples: np.ndarray, rate: int) -> None:
    results = stub.StreamAudioProcessing(_chunks(samples, rate))
    answered = sum(json.loads(result.result_data)["duration_ms"] for result in results if result.is_final)
    if abs(answered - 1000 * len(samples) / rate) > 100:
        raise RuntimeError(f"the final results cover {answered} ms of the stream")


def _first_partial(stub: AIServiceStub, samples: np.ndarray, rate: int) -> float:
    """Seconds from the first chunk to the first text. The audio is paced as it is spoken."""
    begun = time.perf_counter()
    results = stub.StreamAudioProcessing(
        _chunks(samples, rate, pace=1.0), metadata=(("flush-interval-ms", str(_FLUSH_INTERVAL_MS)),)
    )
    for result in results:
        if json.loads(result.result_data)["text"]:
            results.cancel()
            return time.perf_counter() - begun
    raise RuntimeError("no text came")
