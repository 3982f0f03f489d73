"""The engine: slots, queue, deadlines, readiness, and results by task id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import (
    Busy,
    Draining,
    NotReady,
    RuntimeTimeout,
    Unsupported,
)
from inference_service.results import Analysis, ResultStore
from inference_service.runtimes.base import Call, Readiness
from inference_service.settings import Settings
from inference_service.tasks import Task
from tests.service.conftest import DoubleRuntime

pytestmark = pytest.mark.fast

Make = Callable[..., Settings]
SECOND = Audio(np.zeros(16000, dtype=np.int16), 16000)
CALL = Call(request_id="test")


async def test_requests_beyond_the_concurrency_wait_and_beyond_the_queue_are_refused(settings: Make) -> None:
    runtime = DoubleRuntime()
    runtime.delay = 0.02
    engine = Engine(settings(SERVER__MAX_CONCURRENCY="2", SERVER__MAX_QUEUE="3"), runtime)
    asked = [engine.run(Task.EMOTION, audio=SECOND, call=CALL) for _ in range(7)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Busy)]
    assert len(refused) == 2
    assert all(error.retry_after >= 1 for error in refused)
    assert runtime.most_running == 2
    assert (engine.admission.running, engine.admission.waiting) == (0, 0)


async def test_an_inference_waits_no_longer_than_the_queue_timeout(settings: Make) -> None:
    runtime = DoubleRuntime()
    runtime.delay = 0.5
    engine = Engine(settings(SERVER__MAX_CONCURRENCY="1", SERVER__QUEUE_TIMEOUT="50ms"), runtime)
    first = asyncio.create_task(engine.run(Task.ASR, audio=SECOND, call=CALL))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match=r"no slot within 0\.05 s"):
        await engine.run(Task.ASR, audio=SECOND, call=CALL)
    await first


async def test_a_task_at_its_own_limit_does_not_hold_up_the_others(settings: Make) -> None:
    runtime = DoubleRuntime()
    runtime.delay = 0.2
    engine = Engine(settings(AI__MODELS__ASR__MAX_CONCURRENT="1"), runtime)
    recognitions = [asyncio.create_task(engine.run(Task.ASR, audio=SECOND, call=CALL)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert (engine.admission.running, engine.admission.waiting) == (1, 2)
    runtime.delay = 0
    await engine.run(Task.EMOTION, text="now", call=CALL)
    assert engine.admission.waiting == 2
    await asyncio.gather(*recognitions)


async def test_cancelling_gives_the_place_back_and_cancels_the_runtimes_work(settings: Make) -> None:
    runtime = DoubleRuntime()
    runtime.delay = 30
    engine = Engine(settings(SERVER__MAX_CONCURRENCY="1"), runtime)
    running = asyncio.create_task(engine.run(Task.ASR, audio=SECOND, call=CALL))
    waiting = asyncio.create_task(engine.run(Task.ASR, audio=SECOND, call=CALL))
    await asyncio.sleep(0.01)
    waiting.cancel()
    running.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    assert runtime.cancelled == 1
    assert (engine.admission.running, engine.admission.waiting) == (0, 0)


@pytest.mark.parametrize(
    ("environment", "call"),
    [
        ({"AI__MODELS__ASR__TIMEOUT": "50ms"}, CALL),
        ({"AI__REQUEST__TIMEOUT": "50ms"}, CALL),
        ({}, Call(request_id="test", timeout=0.05)),
    ],
)
async def test_the_shortest_of_the_three_time_limits_holds(
    settings: Make, environment: dict[str, str], call: Call
) -> None:
    runtime = DoubleRuntime()
    runtime.delay = 30
    engine = Engine(settings(**environment), runtime)
    with pytest.raises(RuntimeTimeout, match=r"0\.05 s"):
        await engine.run(Task.ASR, audio=SECOND, call=call)
    assert runtime.cancelled == 1


async def test_a_task_that_is_switched_off_or_beyond_the_runtime_is_unsupported(settings: Make) -> None:
    runtime = DoubleRuntime()
    runtime.capabilities = frozenset({Task.ASR, Task.EMOTION})
    engine = Engine(settings(AI__MODELS__EMOTION__ENABLED="false"), runtime)
    with pytest.raises(Unsupported, match=r"ai\.models\.emotion\.enabled"):
        await engine.run(Task.EMOTION, text="x", call=CALL)
    with pytest.raises(Unsupported, match="cannot do synthesis_detection"):
        await engine.run(Task.SYNTHESIS, audio=SECOND, call=CALL)
    assert engine.capabilities == {Task.ASR}


async def test_warming_names_the_mistake_instead_of_failing(settings: Make) -> None:
    runtime = DoubleRuntime()
    runtime.error = NotReady("model asr: not found")
    engine = Engine(settings(), runtime)
    status = await engine.warm(Task.ASR, CALL)
    assert (status.ready, status.error) == (False, "model asr: not found")


async def test_readiness_is_asked_once_for_many_and_is_true_again_within_two_seconds(settings: Make) -> None:
    runtime = DoubleRuntime()
    asked = 0

    async def readiness() -> Readiness:
        nonlocal asked
        asked += 1
        return Readiness(not runtime.problems, list(runtime.problems))

    runtime.readiness = readiness  # type: ignore[method-assign]
    engine = Engine(settings(), runtime)
    answers = await asyncio.gather(*(engine.readiness() for _ in range(20)))
    assert all(answer.ready for answer in answers)
    assert asked == 1
    runtime.problems = ["model asr: unloaded"]
    await asyncio.sleep(2)
    assert (await engine.readiness()).problems == ["model asr: unloaded"]


async def test_a_runtime_that_does_not_answer_is_not_ready(settings: Make) -> None:
    runtime = DoubleRuntime()

    async def silence() -> Readiness:
        await asyncio.sleep(60)
        raise AssertionError

    runtime.readiness = silence  # type: ignore[method-assign]
    begun = time.monotonic()
    readiness = await Engine(settings(), runtime).readiness()
    assert not readiness.ready
    assert time.monotonic() - begun < 30


async def test_a_draining_engine_refuses_new_requests_and_is_not_ready(settings: Make) -> None:
    engine = Engine(settings(), DoubleRuntime())
    engine.accept()
    told = []
    engine.when_draining(lambda: told.append("draining"))
    engine.drain()
    engine.drain()
    assert told == ["draining"]
    with pytest.raises(Draining):
        engine.accept()
    assert not (await engine.readiness()).ready
    # Requests that were accepted earlier still finish.
    await engine.run(Task.EMOTION, text="still here", call=CALL)
    assert engine.grace_left() <= engine.settings.server.shutdown_grace


def analysis(task_id: str, created_at: float | None = None) -> Analysis:
    return Analysis(task_id, "ok", "emotion_detection", "{}", 0.5, created_at or time.time())


async def test_results_are_seen_by_the_other_workers_of_the_node(tmp_path) -> None:  # type: ignore[no-untyped-def]
    one, other = (ResultStore(tmp_path, max_entries=10, ttl=60) for _ in range(2))
    await one.put(analysis("a"))
    found = await other.get("a")
    assert found is not None and found.result_type == "emotion_detection"
    assert await other.get("b") is None
    await one.close()
    await other.close()


async def test_results_are_bounded_in_number_and_in_time(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = ResultStore(tmp_path, max_entries=3, ttl=60)
    now = time.time()
    for number in range(5):
        await store.put(analysis(str(number), now + number))
    kept = [number for number in range(5) if await store.get(str(number))]
    assert kept == [2, 3, 4]
    await store.put(analysis("old", now - 61))
    assert await store.get("old") is None
    await store.close()
