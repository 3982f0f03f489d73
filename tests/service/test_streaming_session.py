"""A stream's chunks become results: when, in which order, and what happens after an error."""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest

from inference_service.engine import Engine
from inference_service.errors import (
    BadRequest,
    Busy,
    Draining,
    NotReady,
    ServiceError,
    StreamIdle,
    Unsupported,
)
from inference_service.runtimes.base import Call
from inference_service.settings import Settings
from inference_service.streaming import Chunk, Streaming, StreamResult
from inference_service.streaming.buffer import quietest_point
from inference_service.tasks import Task
from tests.service.conftest import DoubleRuntime
from tests.service.streams import as_sent, pieces, results_of, tone

RATE = 48000
TENTH = RATE // 10 * 2  # bytes in 100 ms


Start = Callable[..., Awaitable[tuple[Streaming, DoubleRuntime]]]


@pytest.fixture
async def start(settings: Callable[..., Settings]) -> AsyncIterator[Start]:
    """`await start(SERVER__MAX_STREAMS="2", …)`: the streams of an engine, and its runtime."""
    async with AsyncExitStack() as stack:

        async def start(**environment: str) -> tuple[Streaming, DoubleRuntime]:
            engine = Engine(settings(**environment), DoubleRuntime())
            stack.push_async_callback(engine.close)
            return Streaming(engine), engine.runtime

        yield start


def spoken(seconds: float, **fields: object) -> list[Chunk]:
    """A stream in chunks of 100 ms; the last chunk is final."""
    parts = pieces(tone(seconds, RATE), TENTH)
    last = len(parts)
    return [
        Chunk(part, sequence=number, is_final=number == last, **fields)  # type: ignore[arg-type]
        for number, part in enumerate(parts, 1)
    ]


def milliseconds(results: list[StreamResult], task: Task = Task.ASR) -> int:
    """The length of the audio that the final results of `task` cover."""
    return sum(result.data.duration_ms for result in results if result.is_final and result.task is task)


def heard_alone(runtime: DoubleRuntime) -> int:
    """The samples of all audio that was recognised without its surroundings."""
    heard = zip(runtime.audios, runtime.options, strict=True)
    return sum(audio.frames for audio, options in heard if not options.word_timestamps)


async def test_a_final_chunk_is_answered_with_one_final_result_for_all_its_audio(start: Start) -> None:
    streams, _ = await start()
    [result] = await results_of(streams, spoken(2.0, stream_id="a"))

    assert (result.stream_id, result.sequence, result.is_final) == ("a", 20, True)
    assert result.task is Task.ASR
    assert result.data.duration_ms == 2000


async def test_a_stream_that_is_half_closed_without_a_final_chunk_is_flushed(start: Start) -> None:
    streams, _ = await start()
    results = await results_of(streams, [Chunk(tone(1.0, RATE), sequence=5), Chunk(sequence=6)])

    assert [(result.sequence, result.data.duration_ms) for result in results] == [(6, 1000)]


async def test_a_full_buffer_is_flushed_and_not_a_sample_of_a_long_stream_is_lost(start: Start) -> None:
    streams, runtime = await start()
    results = await results_of(streams, spoken(95.0))

    assert milliseconds(results) == pytest.approx(95_000, abs=len(results))
    assert all(result.data.duration_ms <= 10_000 for result in results)
    sequences = [result.sequence for result in results]
    assert sequences == sorted(sequences)
    assert sequences[-1] == 950
    assert heard_alone(runtime) == 95 * 16000


@pytest.mark.parametrize("size", [2 * RATE * 30, 10_001, 64])
async def test_the_size_of_chunks_changes_nothing(start: Start, size: int) -> None:
    streams, runtime = await start()
    seconds = 1.5 if size == 64 else 30
    results = await results_of(streams, [Chunk(part) for part in pieces(tone(seconds, RATE), size)])

    assert heard_alone(runtime) == seconds * 16000
    assert milliseconds(results) == pytest.approx(1000 * seconds, abs=len(results))


def test_the_cut_is_made_in_the_pause() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 10 * 16000).astype(np.float32)
    noise[7 * 16000 : int(7.5 * 16000)] *= 0.01

    assert 7.1 < quietest_point(noise) / 16000 < 7.4


async def test_the_sequence_of_a_result_is_that_of_the_chunk_with_its_last_sample(start: Start) -> None:
    streams, _ = await start()
    first, *_ = results = await results_of(streams, spoken(25.0))

    assert first.sequence == -(-first.data.duration_ms // 100)
    assert len(results) > 2


async def test_every_task_is_answered_for_every_flush_in_the_order_asked(start: Start) -> None:
    streams, _ = await start()
    tasks = ("synthesis", "asr", "emotion_detection")
    results = await results_of(streams, spoken(25.0, tasks=tasks))

    expected = [Task.SYNTHESIS, Task.ASR, Task.EMOTION]
    assert [result.task for result in results] == expected * (len(results) // 3)
    for task in expected:
        assert milliseconds(results, task) == pytest.approx(25_000, abs=len(results))


async def test_streams_of_one_connection_are_kept_apart(start: Start) -> None:
    streams, _ = await start()
    both = zip(spoken(3.0, stream_id="a"), spoken(3.0, stream_id="b", tasks=("emotion",)), strict=True)
    results = await results_of(streams, list(itertools.chain.from_iterable(both)))

    assert sorted((result.stream_id, result.task, result.data.duration_ms) for result in results) == [
        ("a", Task.ASR, 3000),
        ("b", Task.EMOTION, 3000),
    ]


async def test_after_its_final_chunk_a_stream_id_starts_afresh(start: Start) -> None:
    streams, _ = await start()
    again = Chunk(tone(1.0, RATE), sequence=1)
    results = await results_of(streams, [*spoken(1.0, tasks=("emotion",)), again])

    assert [(result.task, result.sequence) for result in results] == [(Task.EMOTION, 10), (Task.ASR, 1)]


async def test_a_format_that_changes_in_mid_stream_flushes_what_came_before(start: Start) -> None:
    streams, _ = await start()
    results = await results_of(
        streams,
        [
            Chunk(tone(1.0, 48000), sequence=1),
            Chunk(tone(1.0, 8000), sequence=2, sample_rate=8000),
            Chunk(tone(1.0, 8000), sequence=3),
            Chunk(tone(1.0, 8000), sequence=4, tasks=("emotion",), is_final=True),
        ],
    )

    assert [(result.task, result.sequence, result.data.duration_ms) for result in results] == [
        (Task.ASR, 1, 1000),
        (Task.ASR, 3, 2000),
        (Task.EMOTION, 4, 1000),
    ]


async def test_with_a_flush_interval_partial_results_come_before_the_final_one(start: Start) -> None:
    streams, _ = await start()

    async def paced() -> AsyncIterator[Chunk]:
        for chunk in spoken(6.0):
            await asyncio.sleep(0.02)
            yield chunk

    begun = time.monotonic()
    results = await results_of(streams, paced(), flush_interval_ms=200)

    *partial, final = results
    assert 1 <= len(partial) <= (time.monotonic() - begun) / 0.2
    assert not any(result.is_final for result in partial)
    assert final.is_final
    covered = [result.data.duration_ms for result in results]
    assert covered == sorted(set(covered))  # each covers more than the last
    assert covered[-1] == 6000


async def test_partial_results_cost_no_more_in_a_long_stream_than_in_a_short_one(start: Start) -> None:
    streams, runtime = await start()

    async def paced() -> AsyncIterator[Chunk]:
        for chunk in spoken(60.0):
            await asyncio.sleep(0.002)
            yield chunk

    await results_of(streams, paced(), flush_interval_ms=100)

    assert max(audio.frames for audio in runtime.audios) <= 10 * 16000


async def test_a_slow_runtime_makes_partial_results_rarer_and_loses_nothing(start: Start) -> None:
    streams, runtime = await start()
    runtime.delay = 0.2

    async def paced() -> AsyncIterator[Chunk]:
        for chunk in spoken(10.0):
            await asyncio.sleep(0.01)
            yield chunk

    results = await results_of(streams, paced(), flush_interval_ms=100)

    assert len([result for result in results if not result.is_final]) <= 4
    assert milliseconds(results) == pytest.approx(10_000, abs=2)


async def test_without_audio_there_is_nothing_to_answer(start: Start) -> None:
    streams, _ = await start()
    assert await results_of(streams, [Chunk(sequence=1), Chunk(sequence=2, is_final=True)]) == []


async def test_what_came_before_a_bad_chunk_is_answered_before_the_error(start: Start) -> None:
    streams, _ = await start()
    for bad, reason in [
        (Chunk(tasks=("karaoke",)), "karaoke"),
        (Chunk(sample_rate=1), "sample_rate"),
        (Chunk(b"x" * 4801, is_final=True), "middle of a frame"),
    ]:
        results: list[StreamResult] = []
        with pytest.raises(BadRequest, match=reason):
            await results_of(streams, [Chunk(tone(1.0, RATE)), bad], results=results)
        assert len(results) == 1


async def test_a_task_that_the_node_does_not_offer_is_refused_at_once(start: Start) -> None:
    streams, runtime = await start()
    runtime.capabilities = frozenset({Task.ASR})

    with pytest.raises(Unsupported):
        await results_of(streams, [Chunk(tasks=("emotion",))])
    runtime.capabilities = frozenset({Task.EMOTION})
    with pytest.raises(Unsupported):
        await results_of(streams, [Chunk(sequence=1)])


async def test_a_runtime_that_fails_ends_the_stream_with_its_error(start: Start) -> None:
    streams, runtime = await start()
    runtime.error = NotReady("the model went away")

    async def endless() -> AsyncIterator[Chunk]:
        while True:
            await asyncio.sleep(0)
            yield Chunk(tone(1.0, RATE))

    with pytest.raises(NotReady, match="went away"):
        await results_of(streams, endless())


async def test_a_full_node_delays_final_results_and_leaves_out_partial_ones(start: Start) -> None:
    streams, runtime = await start()
    refusals = iter([Busy("full"), Busy("full")])
    work = runtime._work

    async def refuse_twice(call: Call) -> None:
        if (refusal := next(refusals, None)) is not None:
            raise refusal
        await work(call)

    runtime._work = refuse_twice  # type: ignore[method-assign]
    [result] = await results_of(streams, spoken(1.0))

    assert (result.is_final, result.data.duration_ms) == (True, 1000)


async def test_a_writer_is_slowed_while_its_audio_is_worked_on(start: Start) -> None:
    streams, runtime = await start()
    runtime.delay = 3600
    taken = 0

    async def endless() -> AsyncIterator[Chunk]:
        nonlocal taken
        while True:
            await asyncio.sleep(0)
            taken += 1
            yield Chunk(tone(1.0, RATE))

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(results_of(streams, endless()), 0.5)

    # One buffer in recognition, one that waits.
    assert 15 <= taken <= 22
    assert runtime.cancelled == 1


async def test_a_reader_that_does_not_read_stops_the_work(start: Start) -> None:
    streams, runtime = await start()

    async def endless() -> AsyncIterator[Chunk]:
        while True:
            await asyncio.sleep(0)
            yield Chunk(tone(1.0, RATE))

    async def never(result: StreamResult) -> None:
        await asyncio.sleep(3600)

    with streams.connect(Call("test")) as connection, pytest.raises(TimeoutError):
        await asyncio.wait_for(connection.run(endless(), never), 0.5)

    assert len(runtime.audios) <= 12


async def test_a_stream_that_sends_nothing_is_ended_after_the_idle_timeout(start: Start) -> None:
    streams, _ = await start(AI__STREAMING__IDLE_TIMEOUT="200ms")

    async def stalled() -> AsyncIterator[Chunk]:
        yield Chunk(tone(1.0, RATE))
        await asyncio.sleep(3600)

    results: list[StreamResult] = []
    with pytest.raises(StreamIdle, match=r"no chunk came for 0\.2 s"):
        await results_of(streams, stalled(), results=results)
    assert milliseconds(results) == 1000


async def test_results_that_nobody_reads_end_the_stream_after_the_idle_timeout(start: Start) -> None:
    streams, _ = await start(AI__STREAMING__IDLE_TIMEOUT="200ms")

    async def never(result: StreamResult) -> None:
        await asyncio.sleep(3600)

    with (
        streams.connect(Call("test")) as connection,
        pytest.raises(StreamIdle, match="no result was read"),
    ):
        await connection.run(as_sent(spoken(1.0)), never)


async def test_there_are_only_so_many_streams(start: Start) -> None:
    streams, _ = await start(SERVER__MAX_STREAMS="2")
    with (
        streams.connect(Call("1")),
        streams.connect(Call("2")),
        pytest.raises(Busy, match="2 audio streams are open"),
        streams.connect(Call("3")),
    ):
        pass
    three = [Chunk(tone(0.1, RATE), stream_id=name) for name in ("a", "b", "c")]
    with pytest.raises(ServiceError, match="2 audio streams are open"):
        await results_of(streams, three)
    with streams.connect(Call("4")), streams.connect(Call("5")):
        pass  # every slot is free again


async def test_an_interval_that_would_only_load_the_node_is_refused(start: Start) -> None:
    streams, _ = await start()
    with pytest.raises(BadRequest, match="flush_interval_ms: 5 is not allowed"):
        await results_of(streams, [], flush_interval_ms=5)


async def test_a_draining_node_lets_streams_finish_and_then_ends_them_answered(start: Start) -> None:
    streams, _ = await start(SERVER__SHUTDOWN_GRACE="8s")
    engine = streams._engine

    async def live() -> AsyncIterator[Chunk]:
        for number in itertools.count(1):
            await asyncio.sleep(0.01)
            yield Chunk(tone(0.1, RATE), sequence=number)

    async def short() -> AsyncIterator[Chunk]:
        for number in range(20):
            await asyncio.sleep(0.01)
            yield Chunk(tone(0.1, RATE), sequence=number, stream_id="short")

    ended: list[StreamResult] = []
    running = asyncio.create_task(results_of(streams, live(), results=ended))
    finishing = asyncio.create_task(results_of(streams, short()))
    await asyncio.sleep(0.1)
    engine.drain()

    assert milliseconds(await finishing) == 2000
    with pytest.raises(Draining, match="open the stream again"):
        await running
    assert milliseconds(ended) == 100 * ended[-1].sequence
    with pytest.raises(Draining):
        await results_of(streams, [])


async def test_a_stream_whose_inference_hangs_is_ended_within_the_grace_time(start: Start) -> None:
    streams, runtime = await start(SERVER__SHUTDOWN_GRACE="2s")
    runtime.delay = 3600
    running = asyncio.create_task(results_of(streams, spoken(1.0)))
    await asyncio.sleep(0.1)
    streams._engine.drain()

    with pytest.raises(Draining):
        await asyncio.wait_for(running, 60)


async def test_a_thousand_idle_streams_take_no_processor_time(start: Start) -> None:
    streams, _ = await start(SERVER__MAX_STREAMS="1000")
    answered = asyncio.Semaphore(0)

    async def silent() -> AsyncIterator[Chunk]:
        yield Chunk(tone(0.5, 16000), sequence=1, sample_rate=16000, is_final=True)
        answered.release()
        await asyncio.sleep(3600)

    running = [asyncio.create_task(results_of(streams, silent(), flush_interval_ms=100)) for _ in range(1000)]
    for _ in running:
        await answered.acquire()
    gc.collect()

    async def calls() -> int:
        """The functions that run in half a second."""
        counted = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal counted
            counted += event == "call"

        sys.setprofile(count)
        await asyncio.sleep(0.5)
        sys.setprofile(None)
        return counted

    # The streams have an answer, and may still be busy with what follows it.
    deadline = time.monotonic() + 60
    while await calls() >= 1000:
        assert time.monotonic() < deadline, "the streams poll"

    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert streams._engine.streams.open == 0
