"""`python -m tests.bench`: the numbers of this project on this machine, as a table and as JSON.

Everything runs on loopback in one run and shares the machine's cores, so only the ratios mean something.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from infra.gateway.render import Site, UpstreamServer
from tests.bench import streams
from tests.bench.hostile import hostile
from tests.bench.live import live
from tests.bench.load import in_turns, measure, waveform
from tests.bench.preview import preview
from tests.bench.realtime import realtime
from tests.bench.row import Row, show
from tests.bench.service import ready, service
from tests.bench.speech import recognition
from tests.bench.words import words
from tests.gateway.nginx import running as running_nginx
from tests.ports import free_port, free_ports
from tests.service.small_triton import tensor, write_model
from tests.triton_server import MODELS_VENV, ROOT, triton_server

CONNECTIONS = 4

#: A model that does next to nothing, so that a benchmark measures the way to it.
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

LOGITS = np.array([0.5, 0.25, 0.25], np.float32)

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("logits", LOGITS)])
            for request in requests
            if len(pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy())
        ]
"""

_LABELS = 'parameters [{ key: "labels" value: { string_value: "[\\"a\\", \\"b\\", \\"c\\"]" } }]'


def json_request(folder: Path, seconds: float, route: str = "emotion") -> Path:
    """A POST of base64 PCM in JSON, as a file of bytes."""
    audio = base64.b64encode(waveform(seconds).tobytes()).decode()
    body = json.dumps({"audio_data": audio, "format": "pcm", "sample_rate": 16000, "channels": 1}).encode()
    return _request(folder / f"{route}-{seconds:g}.json", route, "application/json", body)


def body_request(folder: Path, seconds: float) -> Path:
    """A POST whose body is the PCM itself."""
    return _request(
        folder / f"emotion-{seconds:g}.pcm",
        "emotion",
        "application/octet-stream",
        waveform(seconds).tobytes(),
    )


def _request(path: Path, route: str, media_type: str, body: bytes) -> Path:
    head = (
        f"POST /api/v1/ai/{route} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    path.write_bytes(head.encode() + body)
    return path


def direct(port: int, seconds: float) -> dict[str, Any]:
    """The job that calls Triton directly: threads of one process with a connection each, as over HTTP."""
    return {"kind": "triton", "port": port, "seconds": seconds, "connections": CONNECTIONS}


def over_http(port: int, request: Path, connections: int = CONNECTIONS) -> dict[str, Any]:
    """The job that sends a request to the service."""
    return {"kind": "http", "port": port, "request": str(request), "connections": connections}


def throughput(folder: Path, triton: int, http: int, duration: float) -> list[Row]:
    """The rates of the service and of a bare route, relative to direct calls. Rows of the bare route have no
    goal."""
    rows = []
    goals: dict[str, dict[int, float | None]] = {
        "base64 JSON": {1: 0.65, 10: 0.60, 30: 0.65},
        "body": {1: 0.70, 10: 0.80, 30: 0.90},
        "base64 JSON, bare route": {1: None, 10: None, 30: None},
        "body, bare route": {1: None, 10: None, 30: None},
    }
    with bare_route(triton) as bare:
        for seconds in (1, 10, 30):
            as_json, as_body = json_request(folder, seconds), body_request(folder, seconds)
            rates = in_turns(
                {
                    "direct": direct(triton, seconds),
                    "base64 JSON": over_http(http, as_json),
                    "body": over_http(http, as_body),
                    "base64 JSON, bare route": over_http(bare, as_json),
                    "body, bare route": over_http(bare, as_body),
                },
                duration,
            )
            for name, goal in goals.items():
                measured = f"{rates[name]:.0f}/s of {rates['direct']:.0f}/s direct"
                ratio = rates[name] / rates["direct"]
                rows.append(Row(f"{seconds} s of audio, {name}", measured, ratio, goal[seconds], "more"))
    return rows


@contextmanager
def bare_route(triton: int) -> Iterator[int]:
    """Run `bare_route.py` under uvicorn with two workers. Yields its port."""
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "uvicorn", "tests.bench.bare_route:app", "--workers", "2"),
            *("--port", str(port), "--no-access-log", "--log-level", "warning"),
        ],
        env={**os.environ, "TRITON": f"127.0.0.1:{triton}"},
        cwd=ROOT,
    )
    try:
        deadline = time.monotonic() + 30
        while not ready(f"http://127.0.0.1:{port}/"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the bare route did not become ready")
            time.sleep(0.2)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def gateway(folder: Path, http: int, duration: float) -> list[Row]:
    """The share of the throughput that nginx costs."""
    (folder / "nginx").mkdir()
    ports = free_ports(2)
    node = UpstreamServer(name="node-1", host="127.0.0.1", http_port=http, grpc_port=1)
    site = Site(servers=(node,), http=ports[0], grpc=ports[1], rate_limit=None)
    rows = []
    with running_nginx(site, folder / "nginx"):
        for seconds in (1, 10, 30):
            request = body_request(folder, seconds)
            jobs = {"node": over_http(http, request), "gateway": over_http(ports[0], request)}
            rates = in_turns(jobs, duration)
            plain, through = rates["node"], rates["gateway"]
            rows.append(
                Row(
                    f"gateway's share, {seconds} s, body",
                    f"{through:.0f}/s of {plain:.0f}/s",
                    1 - through / plain,
                    0.15,
                    "less",
                )
            )
    return rows


def latency(folder: Path, triton: int, http: int, duration: float) -> list[Row]:
    """The time that the service adds to one direct call with 1 s of audio, over one connection."""
    plain = measure(kind="triton", port=triton, seconds=1, connections=1, duration=duration)["p50"]
    rows = []
    for name, request in (("base64 JSON", json_request(folder, 1)), ("body", body_request(folder, 1))):
        through = measure(**over_http(http, request, connections=1), duration=duration)["p50"]
        added = 1000 * (through - plain)
        measured = f"p50 {1000 * through:.2f} ms, direct {1000 * plain:.2f} ms"
        rows.append(Row(f"added latency in ms, {name}", measured, added, 2.0, "less"))
    return rows


def memory(folder: Path, process: psutil.Process, http: int) -> list[Row]:
    """Proportional set sizes in MB: of one worker before its first request, and of all during 32 requests."""
    workers = process.children()
    idle = max(worker.memory_full_info().pss for worker in workers) / 1e6
    request = json_request(folder, 30)
    load = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert load.stdin is not None
    json.dump({**over_http(http, request, connections=32), "duration": 5}, load.stdin)
    load.stdin.close()
    most = 0.0
    while load.poll() is None:
        most = max(most, sum(each.memory_full_info().pss for each in (process, *workers)) / 1e6)
        time.sleep(0.1)
    if load.returncode:
        raise RuntimeError("the load generator failed")
    return [
        Row("memory of an idle worker in MB", f"{idle:.0f} MB", idle, 150, "less"),
        Row("memory at 32 x 30 s in MB", f"{most:.0f} MB, {len(workers)} workers", most, 600, "less"),
    ]


def speech(folder: Path) -> list[Row]:
    """The real ASR model through the service: processing time over audio time, one clip at a time."""
    import soundfile

    rows = []
    samples, rate = soundfile.read(ROOT / "recordings" / "inaugural-1961.flac", dtype="int16")
    (folder / "asr").mkdir()
    tiny = {"ASR_MODEL_PATH": "tiny.en"}
    with ExitStack() as stack:
        ports = stack.enter_context(triton_server(folder / "asr", models=["asr"], environment=tiny))
        off = {"AI__MODELS__EMOTION__ENABLED": "false", "AI__MODELS__SYNTHESIS__ENABLED": "false"}
        grpc_port = free_port()
        _, http = stack.enter_context(service(folder, ports.grpc, SERVER__GRPC_PORT=str(grpc_port), **off))
        for seconds in (10, 20, 30):
            clip = [samples[n % len(samples)] for n in range(seconds * rate)]
            path = folder / f"clip-{seconds}.wav"
            soundfile.write(path, clip, rate)
            body = path.read_bytes()
            request = _request(folder / f"asr-{seconds}", "asr", "audio/wav", body)
            spent = measure(**over_http(http, request, connections=1), duration=3.0)["p50"]
            measured = f"{spent:.2f} s of {seconds} s"
            rows.append(Row(f"embedded ASR, {seconds} s clip", measured, spent / seconds, 0.06, "less"))
        rows += streams.streams(grpc_port)
    return rows


def small_model(folder: Path, wanted: set[str], duration: float) -> list[Row]:
    """All measurements with the model that does next to nothing."""
    repository = folder / "models"
    write_model(
        repository,
        "emotion",
        MODEL,
        [tensor("audio_input", "FP32", "[ -1 ]")],
        [tensor("logits", "FP32", "[ 3 ]")],
        _LABELS,
    )
    only_emotion = {
        "AI__MODELS__ASR__ENABLED": "false",
        "AI__MODELS__SYNTHESIS__ENABLED": "false",
        "AI__MODELS__EMOTION__TEXT_MODEL_NAME": "",
    }
    grpc_port = free_port()
    rows: list[Row] = []
    with ExitStack() as stack:
        ports = stack.enter_context(triton_server(folder, model_repository=repository))
        process, http = stack.enter_context(
            service(folder, ports.grpc, SERVER__GRPC_PORT=str(grpc_port), **only_emotion)
        )
        if "memory" in wanted:  # first, before the workers have answered a request
            rows += memory(folder, process, http)
        if "latency" in wanted:
            rows += latency(folder, ports.grpc, http, duration)
            rows += streams.unary(ports.grpc, grpc_port, duration)
        if "throughput" in wanted:
            rows += throughput(folder, ports.grpc, http, duration)
        if "gateway" in wanted:
            rows += gateway(folder, http, duration)
    return rows


def main() -> int:
    """Measure, print the table and write the JSON file. Returns the exit status."""
    parts = [
        "recognition",
        "live",
        "realtime",
        "words",
        "speech",
        "preview",
        "hostile",
        "memory",
        "latency",
        "throughput",
        "gateway",
    ]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--duration", type=float, default=5.0, help="seconds of each measurement")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="where results go")
    parser.add_argument("--only", nargs="*", choices=parts, default=parts)
    arguments = parser.parse_args()
    if not (MODELS_VENV / "bin" / "python").exists():
        print(f"{MODELS_VENV} does not exist: run make setup", file=sys.stderr)
        return 2
    wanted = set(arguments.only)
    # SIGTERM ends the benchmark with an exception, so the processes that it started are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if "recognition" in wanted:
            rows += recognition("tiny.en") + recognition("base", rounds=1, minutes=3)
        if "live" in wanted:
            rows += live()
        if "realtime" in wanted:
            rows += realtime()
        if "words" in wanted:
            rows += words()
        if "speech" in wanted:
            rows += speech(folder)
        if "preview" in wanted:
            rows += preview(folder)
        if "hostile" in wanted:
            rows += hostile(folder)
        # A model that does next to nothing comes last.
        if wanted & {"memory", "latency", "throughput", "gateway"}:
            rows += small_model(folder, wanted, arguments.duration)
    show(rows)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    results = [{**asdict(row), "reached": row.reached} for row in rows]
    arguments.json.write_text(json.dumps({"cores": os.cpu_count(), "rows": results}, indent=2) + "\n")
    print(f"\n{os.cpu_count()} cores; written to {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
