"""What hostile clients do to a node: the delay of its /health and its memory, during each kind of attack.

`python -m tests.bench.hostile` runs all of them against a service of its own, as the part `hostile` of the
benchmarks does. The runtime of that service is away: everything before it is what is attacked.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import psutil
import soundfile

from tests.bench.row import Row
from tests.bench.service import process_of_service
from tests.ports import free_port

BUDGET = 1_000_000_000
_KEY = "the-key"
_SECONDS = 10.0

#: Seconds within which /health must answer, whatever the clients do.
_GOAL = 0.1


# What is measured -------------------------------------------------------------------------------------------


def probe(port: int, seconds: float) -> None:
    """Ask /health every 5 ms, on one connection; prints the delays in seconds as JSON. Run in a process."""
    import http.client

    delays = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        connection.request("GET", "/health")
        connection.getresponse().read()
        delays.append(time.perf_counter() - begun)
        time.sleep(0.005)
    print(json.dumps(delays))


class Observed:
    """The delays of /health and the memory of the service, while the context is open."""

    def __init__(self, process: psutil.Process, port: int, seconds: float) -> None:
        self._process = process
        self.before = self.resident()
        self.most = self.before
        self.p99 = 0.0
        self._prober = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.hostile", "probe", str(port), str(seconds)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()

    def finish(self) -> None:
        """Wait for the prober's end."""
        printed, _ = self._prober.communicate()
        self._done.set()
        self._sampler.join()
        delays = sorted(json.loads(printed))
        self.p99 = delays[int(0.99 * (len(delays) - 1))]

    def _sample(self) -> None:
        while not self._done.wait(0.02):
            self.most = max(self.most, self.resident())

    def resident(self) -> int:
        """Bytes in memory of the service's processes."""
        return self.memory(self._process)

    @staticmethod
    def memory(service: psutil.Process) -> int:
        """Bytes in memory of `service` and its workers."""
        return sum(process.memory_info().rss for process in (service, *service.children()))

    def rows(self, name: str, what: str) -> list[Row]:
        """The rows of the table."""
        grown = (self.most - self.before) / 1e6
        memory = f"{self.before / 1e6:.0f} MB, at most {self.most / 1e6:.0f} MB"
        return [
            Row(f"p99 of /health in s, {name}", what, self.p99, _GOAL, "less"),
            Row(f"growth of memory in MB, {name}", memory, grown, BUDGET / 1e6, "less"),
        ]


# The attacks ------------------------------------------------------------------------------------------------


@cache
def bodies() -> list[tuple[str, bytes]]:
    """Bodies that cost much to read, and their media types."""
    return list(_bodies())


def _bodies() -> Iterator[tuple[str, bytes]]:
    noise = np.random.default_rng(0).integers(0, 256, 30_000_000, dtype=np.uint8).tobytes()
    forms = {
        "plain": base64.b64encode(noise),
        "URL-safe": base64.urlsafe_b64encode(noise),
        "MIME": base64.encodebytes(noise).replace(b"\n", b"\\r\\n"),
        "escaped": base64.b64encode(noise).replace(b"/", b"\\/"),
    }
    for text in forms.values():
        yield "application/json", b'{"format": "pcm", "audio_data": "' + text + b'"}'
    yield "application/json", b'{"x": [' + b"1," * 40_000_000 + b"1]}"
    yield "application/json", b'{"x": "' + b'\\"' * 40_000_000 + b'"}'
    yield "audio/pcm; channels=64", noise[: len(noise) // 128 * 128]
    silence = np.zeros((60 * 384_000, 1), dtype=np.int16)
    for format, subtype in (("FLAC", "PCM_16"), ("WAV", "PCM_24")):
        written = io.BytesIO()
        soundfile.write(written, silence, 384_000, format=format, subtype=subtype)
        yield f"audio/{format.lower()}", written.getvalue()


async def post(port: int, media_type: str, body: bytes, *, key: str = _KEY) -> int:
    """Send a request; returns the status."""
    path = "asr?channels=64&sample_rate=16000" if "channels" in media_type else "asr"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError):
        writer.write(
            f"POST /api/v1/ai/{path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n"
            f"Content-Type: {media_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
        )
        for start in range(0, len(body), 1 << 20):
            writer.write(body[start : start + (1 << 20)])
            await writer.drain()
    status = (await reader.readline()).split()
    writer.close()
    return int(status[1]) if len(status) > 1 else 0


async def hostile_bodies(port: int, _: int, until: float) -> str:
    """Four clients that send one of `bodies` after the other."""
    several = itertools.cycle(bodies())
    counts: dict[int, int] = {}

    async def client() -> None:
        while time.monotonic() < until:
            status = await post(port, *next(several))
            counts[status] = counts.get(status, 0) + 1

    await asyncio.gather(*(client() for _ in range(4)))
    return f"{sum(counts.values())} bodies, statuses {sorted(counts)}"


async def slow_uploads(port: int, _: int, until: float) -> str:
    """500 uploads of 90 MB: half send some bytes now and then, half break off after a megabyte."""

    async def upload(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(ConnectionError):
            writer.write(
                f"POST /api/v1/ai/asr HTTP/1.1\r\nHost: a\r\nX-API-Key: {_KEY}\r\nContent-Type: audio/wav\r\n"
                "Content-Length: 90000000\r\n\r\n".encode()
            )
            if number % 2:
                writer.write(bytes(1_000_000))
                await writer.drain()
            while time.monotonic() < until and not number % 2 and not reader.at_eof():
                writer.write(bytes(20_000))
                await writer.drain()
                await asyncio.sleep(0.5)
        writer.transport.abort()

    async def again(number: int) -> None:
        while time.monotonic() < until:
            await upload(number)
            await asyncio.sleep(1.0)

    await asyncio.gather(*(again(number) for number in range(500)))
    return "500 at once"


async def unfinished_bodies(port: int, _: int, until: float) -> str:
    """24 bodies of 90 MB that are sent but for their last byte: more than the budget holds."""

    async def upload() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        status = b""
        with contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(
                f"POST /api/v1/ai/asr HTTP/1.1\r\nHost: a\r\nX-API-Key: {_KEY}\r\nContent-Type: audio/wav\r\n"
                "Content-Length: 90000000\r\n\r\n".encode()
            )
            for _ in range(89):
                writer.write(bytes(1_000_000))
                await writer.drain()
            async with asyncio.timeout(max(0.0, until - time.monotonic())):
                status = await reader.readline()
        writer.transport.abort()
        return int((status.split() or [b"", b"0"])[1])

    statuses = await asyncio.gather(*(upload() for _ in range(24)))
    return f"{statuses.count(503)} of 24 refused"


async def wrong_keys(port: int, grpc_port: int, until: float) -> str:
    """A thousand wrong keys a second: over HTTP, WebSocket and gRPC, a third each."""
    import grpc
    import websockets

    from inference_service.grpc_api.generated import ai_service_pb2 as pb
    from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub

    async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
        stub = AIServiceStub(channel)
        request = pb.ProcessAudioDataRequest(audio_data=bytes(32_000), format="pcm")

        async def http() -> None:
            assert await post(port, "audio/wav", bytes(1000), key="wrong") == 401

        async def websocket() -> None:
            with contextlib.suppress(websockets.InvalidStatus):
                headers = {"x-api-key": "wrong"}
                url = f"ws://127.0.0.1:{port}/api/v1/ai/stream"
                async with websockets.connect(url, additional_headers=headers):
                    raise AssertionError("a wrong key was accepted")

        async def rpc() -> None:
            code = await stub.ProcessAudioData(request, metadata=(("x-api-key", "wrong"),)).code()
            assert code is grpc.StatusCode.UNAUTHENTICATED

        sent = await _at_rate([http, websocket, rpc], 1000.0, until)
    return f"{sent / _SECONDS:.0f} a second"


async def _at_rate(kinds: list[Callable[[], Awaitable[None]]], rate: float, until: float) -> int:
    """Start the calls in turn at `rate` a second, at most 500 at once. Returns how many have ended."""
    ended = 0
    places = asyncio.Semaphore(500)

    async def one(call: Callable[[], Awaitable[None]]) -> None:
        nonlocal ended
        try:
            await call()
            ended += 1
        finally:
            places.release()

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if time.monotonic() >= until:
                break
            await places.acquire()
            group.create_task(one(kinds[number % len(kinds)]))
            await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
    return ended


async def large_wrong_keys(_: int, grpc_port: int, until: float) -> str:
    """Eight gRPC callers with a wrong key and 90 MB each, again and again."""
    import grpc

    options = [("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    message = bytes(90_000_000)
    calls = 0

    async def caller() -> None:
        nonlocal calls
        async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}", options=options) as channel:
            method = channel.unary_unary("/grpc.AIService/ProcessAudioData", request_serializer=bytes)
            while time.monotonic() < until:
                assert await method(message, metadata=(("x-api-key", "wrong"),)).code() in (
                    grpc.StatusCode.UNAUTHENTICATED,
                    grpc.StatusCode.INTERNAL,  # the stream was reset while the client still sent
                )
                calls += 1

    await asyncio.gather(*(caller() for _ in range(8)))
    return f"{calls} calls of 90 MB"


_ATTACKS: dict[str, Callable[[int, int, float], Awaitable[str]]] = {
    "hostile bodies": hostile_bodies,
    "500 slow or dying uploads": slow_uploads,
    "unfinished bodies": unfinished_bodies,
    "wrong keys": wrong_keys,
    "wrong keys with 90 MB": large_wrong_keys,
}


def hostile(folder: Path, seconds: float = _SECONDS) -> list[Row]:
    """All attacks, one after the other, on one service."""
    grpc_port = free_port()
    rows: list[Row] = []
    settings = {
        "SERVER__GRPC_PORT": str(grpc_port),
        "SERVER__API_KEYS": _KEY,
        "SERVER__BYTE_BUDGET": str(BUDGET),
        "AI__RUNTIME__TRITON__ENDPOINT": "127.0.0.1:9",
    }
    bodies()  # made before the time begins
    with process_of_service(folder, **settings) as (process, http):
        idle = Observed.memory(process)
        for name, attack in {"nobody": _nobody, **_ATTACKS}.items():
            observed = Observed(process, http, seconds)
            told = asyncio.run(attack(http, grpc_port, time.monotonic() + seconds))
            observed.finish()
            rows += observed.rows(name, told)
            time.sleep(5)  # the service returns freed memory
        kept = (observed.resident() - idle) / 1e6
        measured = f"{idle / 1e6:.0f} MB before all attacks"
        rows.append(Row("growth of memory in MB, after all attacks", measured, kept, 200, "less"))
    return rows


async def _nobody(_: int, __: int, until: float) -> str:
    await asyncio.sleep(until - time.monotonic())
    return "nothing else"


def main() -> int:
    """Run all attacks and print the rows."""
    if sys.argv[1:2] == ["probe"]:
        probe(int(sys.argv[2]), float(sys.argv[3]))
        return 0
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        rows = hostile(Path(folder))
    for row in rows:
        verdict = "" if row.reached else "  not reached"
        print(f"{row.name:60} {row.measured:40} {row.value:10.3f} <= {row.goal:g}{verdict}")
    return 0 if all(row.reached for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
