"""The load generators, each in a process of its own. They send prebuilt bytes and count the answers.

`python -m tests.bench.load` reads one JSON job from standard input and prints one JSON line of results.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

#: Sets a connection up; each call of the result sends one request.
Connect = Callable[[], Callable[[], None]]

ROUNDS = 5


def measure(**job: Any) -> dict[str, Any]:
    """Run a job in a new process; returns `rate` (requests a second) and `p50` (seconds)."""
    command = [sys.executable, "-m", "tests.bench.load"]
    answer = subprocess.run(command, input=json.dumps(job), capture_output=True, text=True, check=False)
    if answer.returncode:
        raise RuntimeError(f"the load generator failed:\n{answer.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def in_turns(jobs: dict[str, dict[str, Any]], duration: float) -> dict[str, float]:
    """Each job's rate in requests per second: the median of `ROUNDS` turns of `duration` / `ROUNDS` seconds.

    The jobs take turns, because the speed of a shared machine changes within seconds.
    """
    rates: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS):
        for name, job in jobs.items():
            rates[name].append(measure(**job, duration=duration / ROUNDS)["rate"])
    return {name: statistics.median(turns) for name, turns in rates.items()}


def http_connection(port: int, request: bytes) -> Callable[[], None]:
    """One connection that sends `request` and reads an answer of 200. Reopened when the server closes it."""
    connection: socket.socket | None = None
    buffer = bytearray(65536)
    view = memoryview(buffer)

    def once() -> None:
        nonlocal connection
        if connection is None:
            connection = socket.create_connection(("127.0.0.1", port), timeout=60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        filled, wanted = 0, 0
        while not wanted or filled < wanted:
            count = connection.recv_into(view[filled:])
            if not count:
                raise ConnectionError("the server closed the connection")
            filled += count
            head = buffer.find(b"\r\n\r\n", 0, filled)
            if head < 0:
                continue
            if buffer[9:12] != b"200":
                raise RuntimeError(bytes(buffer[:filled]).decode("latin-1"))
            fields = bytes(buffer[:head]).lower()
            at = fields.index(b"content-length:") + len(b"content-length:")
            wanted = head + 4 + int(fields[at:].split(b"\r\n", 1)[0])
        if b"connection: close" in fields:  # nginx closes a connection after a thousand requests
            connection.close()
            connection = None

    return once


def triton_connection(port: int, seconds: float) -> Callable[[], None]:
    """One tritonclient connection that sends the same audio as float32. It sets the audio anew for each call,
    as a client with new audio must."""
    import tritonclient.grpc

    client = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{port}")
    samples = waveform(seconds).astype(np.float32) / np.float32(32768)

    def once() -> None:
        tensor = tritonclient.grpc.InferInput("audio_input", samples.shape, "FP32")
        tensor.set_data_from_numpy(samples)
        client.infer("emotion", [tensor], client_timeout=60).as_numpy("logits")

    return once


def waveform(seconds: float) -> np.ndarray:
    """The audio of every measurement: int16 noise at 16 kHz, the same in every process."""
    rng = np.random.default_rng(0)
    return rng.integers(-8000, 8000, int(16000 * seconds), dtype=np.int16)


def _threads(connect: Connect, connections: int, duration: float) -> list[float]:
    """Runs `connections` threads, each with one connection and one request at a time. Returns the seconds of
    every request."""
    latencies: list[list[float]] = [[] for _ in range(connections)]
    errors: list[BaseException] = []
    together = threading.Barrier(connections)

    def work(mine: list[float]) -> None:
        try:
            once = connect()
            for _ in range(5):
                once()
            together.wait()
            end = time.perf_counter() + duration
            while (begun := time.perf_counter()) < end:
                once()
                mine.append(time.perf_counter() - begun)
        except BaseException as error:  # noqa: BLE001 - raised below, whatever it is
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=work, args=(mine,)) for mine in latencies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [latency for mine in latencies for latency in mine]


def _run(job: dict[str, Any]) -> dict[str, Any]:
    if job["kind"] == "http":
        request = Path(job["request"]).read_bytes()

        def connect() -> Callable[[], None]:
            return http_connection(job["port"], request)
    else:

        def connect() -> Callable[[], None]:
            return triton_connection(job["port"], job["seconds"])

    latencies = _threads(connect, job["connections"], job["duration"])
    return {"rate": len(latencies) / job["duration"], "p50": statistics.median(latencies)}


if __name__ == "__main__":
    print(json.dumps(_run(json.load(sys.stdin))))
