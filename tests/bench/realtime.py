"""OpenAI's real-time sessions: how soon the first text comes, and how soon the transcript after a commit.

    .venv/bin/python -m tests.bench.realtime

Speech is paced as it is spoken, and OpenAI's Python client sends it.
"""

import asyncio
import base64
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from openai import AsyncOpenAI

from tests.bench.row import Row
from tests.bench.service import service
from tests.triton_server import ROOT, triton_server

#: By what Triton's environment calls them.
WEIGHTS = {"tiny.en": "tiny.en", "Whisper base": ""}

ROUNDS = 3
RATE = 24_000
_CHUNK = 0.1
_ITEM = "conversation.item.input_audio_transcription"


@dataclass(frozen=True)
class Heard:
    """Of one session, in seconds: first audio to first text, and commit to transcript."""

    first: float
    last: float


def realtime() -> list[Row]:
    """The rows of real-time sessions, with either weights."""
    samples, rate = soundfile.read(ROOT / "recordings" / "inaugural-1961.flac", dtype="float32")
    speech = np.clip(soxr.resample(samples, rate, RATE), -1, 1)
    audio = (speech * 32767).astype("<i2").tobytes()
    off = {"AI__MODELS__EMOTION__ENABLED": "false", "AI__MODELS__SYNTHESIS__ENABLED": "false"}
    rows = []
    for name, path in WEIGHTS.items():
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="realtime-")))
            triton = triton_server(folder, models=["asr"], environment={"ASR_MODEL_PATH": path})
            _, port = stack.enter_context(service(folder, stack.enter_context(triton).grpc, **off))
            heard = [asyncio.run(_session(port, audio)) for _ in range(ROUNDS + 1)][1:]
        rows += [
            _row(f"realtime: first text, {name}, s", [each.first for each in heard], 2.0),
            _row(f"realtime: transcript after the commit, {name}, s", [each.last for each in heard], None),
        ]
    return rows


def _row(name: str, seconds: list[float], goal: float | None) -> Row:
    slowest = max(seconds)
    return Row(name, f"p50 {statistics.median(seconds):.2f} s, most {slowest:.2f} s", slowest, goal, "less")


async def _session(port: int, audio: bytes) -> Heard:
    loop = asyncio.get_running_loop()
    begun = committed = 0.0

    async def speak() -> None:
        nonlocal begun, committed
        begun = loop.time()
        size = round(_CHUNK * RATE) * 2
        for number, at in enumerate(range(0, len(audio), size), 1):
            # A microphone delivers a chunk after its last sample.
            await asyncio.sleep(begun + number * _CHUNK - loop.time())
            chunk = base64.b64encode(audio[at : at + size]).decode()
            await connection.input_audio_buffer.append(audio=chunk)
        committed = loop.time()
        await connection.input_audio_buffer.commit()

    first: float | None = None
    async with (
        AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none") as client,
        client.realtime.connect(extra_query={"intent": "transcription"}) as connection,
    ):
        manual = {"type": "transcription", "audio": {"input": {"turn_detection": None}}}
        await connection.session.update(session=manual)
        speaking = asyncio.create_task(speak())
        async for event in connection:
            if event.type == f"{_ITEM}.delta" and first is None:
                first = loop.time() - begun
            elif event.type == f"{_ITEM}.completed":
                break
            elif event.type in ("error", f"{_ITEM}.failed"):
                raise RuntimeError(event.error.message)
        await speaking
    if first is None:
        raise RuntimeError("no text came")
    return Heard(first, loop.time() - committed)


if __name__ == "__main__":
    for row in realtime():
        goal = "" if row.goal is None else f"  goal {row.goal:g}" + ("" if row.reached else "  not reached")
        print(f"{row.name:52} {row.value:6.2f}  {row.measured}{goal}", flush=True)
