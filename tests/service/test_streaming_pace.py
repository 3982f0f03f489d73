"""Live speech on a busy node: finals first, partial results by what is left, no further stream when full."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import REGISTRY

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import Busy
from inference_service.runtimes.base import Call
from inference_service.settings import Settings
from inference_service.streaming import Chunk, Streaming, StreamResult
from inference_service.streaming.pace import Pace
from inference_service.tasks import DetailedTranscript, Priority, TranscribeOptions
from tests.service.conftest import DoubleRuntime
from tests.service.streams import pieces, results_of, tone

RATE = 16000
Make = Callable[..., Settings]
Start = Callable[..., Streaming]


class Listener(DoubleRuntime):
    """A test double that hears `says` whatever the length, and drafts only while `drafts` is true."""

    def __init__(self) -> None:
        super().__init__()
        self.drafts = True
        self.says: str | None = "a word"  # None: the length, which is never the same

    async def transcribe(self, audio: Audio, options: TranscribeOptions, call: Call) -> DetailedTranscript:
        self.hold = options.draft and not self.drafts
        found = await super().transcribe(audio, options, call)
        transcript = type(found.transcript)(self.says or str(audio.frames), 0.9, "en", audio.duration_ms)
        return DetailedTranscript(transcript)


@pytest.fixture
async def start(settings: Make) -> AsyncIterator[Start]:
    """`start(AI__STREAMING__MAX_LAG="1", …)`: the streams of an engine on a `Listener`."""
    async with AsyncExitStack() as stack:

        def start(**environment: str) -> Streaming:
            engine = Engine(settings(**environment), Listener())
            stack.push_async_callback(engine.close)
            return Streaming(engine)

        yield start


async def paced(audio: bytes, faster: float = 5.0) -> AsyncIterator[Chunk]:
    """`audio`, PCM at `RATE`, in chunks of 100 ms, so many times as fast as spoken."""
    for number, part in enumerate(pieces(audio, RATE // 10 * 2), 1):
        yield Chunk(part, sequence=number, sample_rate=RATE)
        await asyncio.sleep(0.1 / faster)


def runtime_of(streams: Streaming) -> Any:
    return streams._engine.runtime


def drafts(streams: Streaming) -> list[bool]:
    return [options.draft for options in runtime_of(streams).options]


async def test_partial_results_are_drafts_that_let_final_ones_go_first(start: Start) -> None:
    streams = start()
    runtime_of(streams).says = None
    results = await results_of(streams, paced(tone(4.0, RATE)), flush_interval_ms=200)
    assert [result.is_final for result in results] == [False] * (len(results) - 1) + [True]
    assert drafts(streams) == [not result.is_final for result in results]
    priorities = [call.priority for call in runtime_of(streams).calls]
    assert priorities == [Priority.SHORT] * (len(results) - 1) + [Priority.LIVE]


async def test_a_final_result_that_is_due_cancels_the_partial_one(start: Start) -> None:
    streams = start()
    runtime_of(streams).drafts = False
    results = await asyncio.wait_for(
        results_of(streams, paced(tone(2.0, RATE)), flush_interval_ms=100), timeout=30
    )
    assert [result.is_final for result in results] == [True]
    assert runtime_of(streams).cancelled == 1


async def test_what_two_partial_results_agree_on_is_not_recognised_again_in_silence(start: Start) -> None:
    streams = start()
    audio = tone(3.0, RATE) + bytes(2 * 5 * RATE)
    results = await results_of(streams, paced(audio), flush_interval_ms=200)
    final = results[-1]
    assert final.is_final
    assert (final.data.text, final.data.duration_ms) == ("a word", 8000)  # type: ignore[union-attr]
    assert all(drafts(streams)), "the final result was recognised anew"
    silence = [audio for audio in runtime_of(streams).audios if audio.seconds > 4.5]
    assert not silence, "partial results of silence were recognised"


async def test_sound_after_the_agreement_is_recognised(start: Start) -> None:
    streams = start()

    async def spoken() -> AsyncIterator[Chunk]:
        async for chunk in paced(tone(2.0, RATE) + bytes(2 * 2 * RATE)):
            yield chunk
        # No draft hears what comes now, however slowly it comes.
        runtime_of(streams).drafts = False
        yield Chunk(tone(0.3, RATE), sequence=chunk.sequence + 1, sample_rate=RATE)

    results = await results_of(streams, spoken(), flush_interval_ms=200)
    assert results[-1].is_final
    assert drafts(streams)[-1] is False


async def test_a_node_whose_streams_lag_refuses_the_next_one_and_says_why(start: Start) -> None:
    streams = start(AI__STREAMING__MAX_LAG="0.3")
    runtime_of(streams).delay = 0.5
    with streams.connect(Call("open")):
        await results_of(streams, [Chunk(tone(1.0, RATE), sample_rate=RATE)])
        with pytest.raises(Busy, match=r"the node is full: results of 1 audio streams come \d+\.\d s late"):
            await results_of(streams, [])
    # The one that is open goes on; once it has ended, a new one may try.
    await results_of(streams, [])


async def test_the_lag_of_results_is_a_metric(start: Start) -> None:
    def results(kind: str) -> float:
        return REGISTRY.get_sample_value("ai_stream_lag_seconds_count", {"result": kind}) or 0.0

    before = {kind: results(kind) for kind in ("partial", "final")}
    streams = start()
    found: list[StreamResult] = await results_of(streams, paced(tone(2.0, RATE)), flush_interval_ms=200)
    assert results("final") - before["final"] == 1
    assert results("partial") - before["partial"] == len(found) - 1


async def test_a_new_stream_on_a_busy_node_gets_its_first_text_when_asked(start: Start) -> None:
    streams = start()
    runtime_of(streams).says = None
    pace = streams._recogniser.pace
    for seconds in [0.1] * 10 + [10.0] * 40:
        pace.note(seconds)
    assert pace.interval(0.2) > 1.0
    async with pace.place(first=False), pace.place(first=False), pace.place(first=False):
        # 0.6 s in all: the first partial result, and no further one.
        results = await results_of(streams, paced(tone(3.0, RATE)), flush_interval_ms=200)
    assert [result.is_final for result in results] == [False, True]


def test_a_busy_node_stretches_the_interval_and_an_idle_one_keeps_it() -> None:
    pace = Pace()
    for _ in range(10):
        pace.note(0.1)
    assert pace.interval(0.5) == 0.5
    for _ in range(20):
        pace.note(0.6)
    assert pace.interval(0.5) > 1.2
    for _ in range(40):
        pace.note(10.0)
    assert pace.interval(0.5) <= 4.0
    for _ in range(60):
        pace.note(0.1)
    assert pace.interval(0.5) == 0.5
