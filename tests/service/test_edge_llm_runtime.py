"""The Edge-LLM runtime against the double of the unit manager: sessions, limits, failures, cancellation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inference_service.audio import Audio
from inference_service.errors import (
    Busy,
    NotReady,
    RuntimeFailed,
    RuntimeTimeout,
    ServiceError,
    Unsupported,
)
from inference_service.runtimes.base import Call
from inference_service.runtimes.edge_llm import EdgeLlmRuntime, pool
from inference_service.runtimes.edge_llm.payload import audio_payload
from inference_service.runtimes.edge_llm.session import Session
from inference_service.settings import Settings
from inference_service.tasks import Task, TranscribeOptions
from tests.doubles.unit_manager import UnitManager, answer

ASR, EMOTION = "asr", "emotion"
HELLO = {"transcription": "hello", "confidence": 0.5, "language": "en"}


@pytest.fixture(autouse=True, scope="module")
def short_goodbyes() -> Iterator[None]:
    """The double does not answer an exit, and this saves each test a second of waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "CLOSE_LINGER", 0.05)
        yield


@asynccontextmanager
async def runtime(
    manager: UnitManager,
    *,
    request: dict[str, Any] | None = None,
    edge: dict[str, Any] | None = None,
    models: dict[str, Any] | None = None,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[EdgeLlmRuntime]:
    """A started runtime for the double, with one worker and no delay between frames."""
    settings = Settings.model_validate(
        {
            "server": {"workers": 1},
            "ai": {
                "runtime": {
                    "backend": "edge-llm",
                    "edge_llm": {"endpoint": f"127.0.0.1:{manager.port}", "timeout": 5, **(edge or {})},
                },
                "request": {"audio_stream_chunk_delay_ms": 0, **(request or {})},
                "models": models or {},
            },
        }
    )
    edge_llm = EdgeLlmRuntime(settings, clock=clock) if clock else EdgeLlmRuntime(settings)
    await edge_llm.start()
    try:
        yield edge_llm
    finally:
        await edge_llm.close()


def call(meeting: str = "m", timeout: float | None = None) -> Call:
    return Call(request_id="test", meeting_id=meeting, timeout=timeout)


def speech(seed: int, seconds: float = 0.1, rate: int = 16000, channels: int = 1) -> Audio:
    shape = (int(seconds * rate), channels) if channels > 1 else int(seconds * rate)
    return Audio(np.random.default_rng(seed).integers(-9999, 9999, shape, np.int16), rate)


async def heard(edge_llm: EdgeLlmRuntime, audio: Audio, where: Call | None = None) -> str:
    detailed = await edge_llm.transcribe(audio, TranscribeOptions(), where or call())
    return detailed.transcript.text


def expected(audio: Audio) -> str:
    return str(answer(ASR, audio_payload(audio))["transcription"])


def frame(delta: str, index: int, finish: bool, **other: object) -> dict[str, Any]:
    data = {"delta": delta, "index": index, "finish": finish}
    return {"request_id": "$request_id", "work_id": "$work_id", "data": data, "error": None, **other}


SETUP_DONE = [
    {"expect": "setup"},
    {"send": [{"request_id": "$request_id", "work_id": "llm.1", "error": {"code": 0, "message": ""}}]},
]
REQUEST = {"expect": "inference"}
HELLO_FRAMES = [
    frame(json.dumps(HELLO)[:9], 0, False),
    frame(json.dumps(HELLO)[9:], 1, False),
    frame("", 2, True),
]


# Answers ------------------------------------------------------------------------------------------------


async def test_every_task_answers_from_what_the_unit_received() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        audio = speech(1)
        assert await heard(edge_llm, audio) == expected(audio)
        mood = await edge_llm.emotion_of_text('so {happy} "today" \\ 今日', call())
        assert mood.emotion == answer(EMOTION, 'so {happy} "today" \\ 今日')["emotion"]
        assert mood.duration_ms == 0
        verdict = await edge_llm.detect_synthesis(audio, call())
        assert verdict.score == answer("synthesis", audio_payload(audio))["probability_synthetic"]
        assert verdict.duration_ms == 100


async def test_the_emotion_of_audio_is_that_of_the_words_in_it() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        audio = speech(1)
        mood = await edge_llm.emotion_of_audio(audio, call())
        assert mood.emotion == answer(EMOTION, expected(audio))["emotion"]
        assert mood.duration_ms == 100


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48000, 2), (44100, 1), (16000, 2)])
async def test_whatever_came_in_goes_out_as_16_khz_mono_16_bit_wav(rate: int, channels: int) -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        assert (await heard(edge_llm, speech(3, 0.2, rate, channels))).startswith("heard ")


async def test_data_and_error_may_be_texts() -> None:
    async with UnitManager(string_fields=True) as manager, runtime(manager) as edge_llm:
        assert await heard(edge_llm, speech(1)) == expected(speech(1))


async def test_a_task_that_is_switched_off_is_unsupported() -> None:
    off = {"asr": {"enabled": False}}
    async with UnitManager() as manager, runtime(manager, models=off) as edge_llm:
        assert edge_llm.capabilities == {Task.EMOTION, Task.SYNTHESIS}
        with pytest.raises(Unsupported, match="speech_recognition is switched off"):
            await heard(edge_llm, speech(1))
        with pytest.raises(Unsupported, match="speech recognition is off"):
            await edge_llm.emotion_of_audio(speech(1), call())


# Sessions -----------------------------------------------------------------------------------------------


async def test_a_hundred_parallel_requests_over_twenty_meetings_each_get_their_own_answer() -> None:
    async with UnitManager(answer_delay=0.005) as manager, runtime(manager) as edge_llm:
        audios = [speech(seed, 0.05 + seed / 1000) for seed in range(100)]
        requests = [heard(edge_llm, audio, call(f"m{at % 20}")) for at, audio in enumerate(audios)]
        assert await asyncio.gather(*requests) == [expected(audio) for audio in audios]
        assert manager.most_at_once > 5
        assert len(edge_llm.pool) <= 16


async def test_a_session_is_kept_for_its_meeting_and_model() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        for _ in range(3):
            await heard(edge_llm, speech(1), call("a"))
        await heard(edge_llm, speech(1), call("b"))
        await edge_llm.emotion_of_text("x", call("a"))
        assert [frame["data"]["model"] for frame in manager.actions("setup")] == [ASR, ASR, EMOTION]
        assert manager.connections == 3


async def test_one_meeting_has_one_request_at_a_time_and_different_meetings_run_in_parallel() -> None:
    async with UnitManager(answer_delay=0.05) as manager, runtime(manager) as edge_llm:
        await asyncio.gather(*(heard(edge_llm, speech(at), call("a")) for at in range(3)))
        assert manager.most_at_once == 1
        await asyncio.gather(*(heard(edge_llm, speech(at), call(f"m{at}")) for at in range(4)))
        assert manager.most_at_once == 4


async def test_sessions_are_bounded_and_the_one_unused_for_longest_makes_place() -> None:
    now = [0.0]
    async with (
        UnitManager() as manager,
        runtime(manager, edge={"max_sessions": 2}, clock=lambda: now[0]) as edge_llm,
    ):
        for meeting in ("a", "b", "a", "c", "a"):
            now[0] += 1
            await heard(edge_llm, speech(1), call(meeting))
        assert len(edge_llm.pool) == 2
        assert len(manager.actions("setup")) == 3, "a was used last but c's, so b made place for c"
        assert await until(lambda: len(manager.units) == 2)


async def test_a_meeting_that_never_pauses_does_not_keep_another_one_out() -> None:
    async with (
        UnitManager(answer_delay=0.01) as manager,
        runtime(manager, edge={"max_sessions": 1}) as edge_llm,
    ):

        async def keep_busy(seed: int) -> None:
            while True:
                assert await heard(edge_llm, speech(seed), call("busy")) == expected(speech(seed))

        busy = [asyncio.create_task(keep_busy(seed)) for seed in range(5)]
        await asyncio.sleep(0.1)
        assert await heard(edge_llm, speech(99), call("other", timeout=5)) == expected(speech(99))
        assert not any(task.done() for task in busy)
        for task in busy:
            task.cancel()


async def test_a_session_is_not_given_to_a_request_that_was_just_cancelled() -> None:
    async with UnitManager() as manager, runtime(manager, edge={"max_sessions": 1}) as edge_llm:
        in_use = asyncio.Event()

        async def hold(_session: Session) -> None:
            await in_use.wait()

        async def use(_session: Session) -> None:
            return

        holder = asyncio.create_task(edge_llm.pool.run("a", "asr", hold))
        assert await until(lambda: bool(manager.units))
        cancelled = asyncio.create_task(edge_llm.pool.run("a", "asr", use))
        assert await until(lambda: bool(edge_llm.pool._waiters))
        in_use.set()  # the holder returns the session before the other request handles its cancellation
        cancelled.cancel()
        await holder
        await asyncio.wait_for(edge_llm.pool.run("a", "asr", use), 60)


async def test_idle_sessions_exit_after_a_quarter_of_an_hour() -> None:
    now = [0.0]
    async with UnitManager() as manager, runtime(manager, clock=lambda: now[0]) as edge_llm:
        await heard(edge_llm, speech(1), call("a"))
        now[0] = 600
        await heard(edge_llm, speech(1), call("b"))
        now[0] = 899
        edge_llm.pool.expire_idle()
        assert len(edge_llm.pool) == 2
        now[0] = 900
        edge_llm.pool.expire_idle()
        assert len(edge_llm.pool) == 1
        assert await until(lambda: len(manager.units) == 1)
        assert [frame["work_id"] for frame in manager.actions("exit")] == ["llm.1000"]


async def test_close_exits_every_session_without_waiting_for_units_that_do_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with UnitManager() as manager:
        async with runtime(manager) as edge_llm:
            await asyncio.gather(*(heard(edge_llm, speech(at), call(f"m{at}")) for at in range(5)))
            monkeypatch.setattr(pool, "CLOSE_LINGER", 2)
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 5 * 2, "one after the other"
        assert manager.units == {}


# Framing ------------------------------------------------------------------------------------------------


@hypothesis_settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 60))
async def test_an_answer_split_anywhere_is_put_together(size: int) -> None:
    script = [*SETUP_DONE, REQUEST, {"split": HELLO_FRAMES, "at": size}]
    async with UnitManager(script=script) as manager, runtime(manager) as edge_llm:
        assert await heard(edge_llm, speech(1)) == "hello"


async def test_frames_that_arrive_joined_are_distinguished() -> None:
    other = frame("stale", 0, True, request_id="of-an-earlier-request")
    script = [*SETUP_DONE, REQUEST, {"send": [other, *HELLO_FRAMES, other]}, {"honest": True}]
    async with UnitManager(script=script) as manager, runtime(manager) as edge_llm:
        assert await heard(edge_llm, speech(1)) == "hello"


async def test_an_unfixed_unit_manager_works_with_the_default_framing() -> None:
    careful = {"audio_stream_chunk_delay_ms": 10}
    async with UnitManager(whole_recv=True) as manager, runtime(manager, request=careful) as edge_llm:
        assert await heard(edge_llm, speech(1, 0.2)) == expected(speech(1, 0.2))
        assert len(manager.actions("inference")) > 15
        assert (await edge_llm.readiness()).ready


@pytest.mark.parametrize(
    "hasty",
    [{"audio_stream_chunk_delay_ms": 0}, {"max_single_delta_len": 10_000_000}],
    ids=["no delay", "one big frame"],
)
async def test_an_unfixed_unit_manager_given_too_much_at_once_fails_with_advice(
    hasty: dict[str, Any],
) -> None:
    async with UnitManager(whole_recv=True) as manager, runtime(manager, request=hasty) as edge_llm:
        with pytest.raises(RuntimeFailed) as failed:
            await heard(edge_llm, speech(1, 30))
        assert "edge-llm error (code -2): json format error" in str(failed.value)
        assert "splits its input by line" in str(failed.value)
        for key in ("max_single_delta_len", "audio_stream_chunk_size", "audio_stream_chunk_delay_ms"):
            assert key in str(failed.value)


async def test_ten_megabytes_without_delay_go_through_a_fixed_unit_manager() -> None:
    bigger = {"audio_stream_chunk_size": 65536, "max_single_delta_len": 65536}
    async with UnitManager() as manager, runtime(manager, request=bigger) as edge_llm:
        audio = speech(1, 328)
        assert audio.samples.nbytes > 10_000_000
        assert await heard(edge_llm, audio) == expected(audio)


# Failures -----------------------------------------------------------------------------------------------


async def test_a_broken_connection_is_rebuilt_once() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        await heard(edge_llm, speech(1))
        await restart(manager)
        assert await heard(edge_llm, speech(2)) == expected(speech(2))
        assert len(manager.actions("setup")) == 2


async def test_a_connection_that_breaks_in_the_middle_of_an_answer_is_rebuilt_once() -> None:
    script = [*SETUP_DONE, REQUEST, {"raw": '{"request_id":"$request_id","da'}, {"close": True}]
    async with UnitManager(script=script) as manager, runtime(manager) as edge_llm:
        with pytest.raises(NotReady, match="lost twice"):
            await heard(edge_llm, speech(1))
        assert manager.connections == 2


async def test_a_session_that_the_unit_manager_forgot_is_rebuilt() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        await heard(edge_llm, speech(1))
        manager.units.clear()
        assert await heard(edge_llm, speech(2)) == expected(speech(2))


async def test_a_unit_manager_restart_under_load_costs_at_most_the_requests_in_flight() -> None:
    async with UnitManager(answer_delay=0.02) as manager, runtime(manager) as edge_llm:
        audios = [speech(seed) for seed in range(60)]
        tasks = [
            asyncio.create_task(heard(edge_llm, audio, call(f"m{at % 10}")))
            for at, audio in enumerate(audios)
        ]
        while sum(task.done() for task in tasks) < 10:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
        await restart(manager, away=0.1)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for audio, outcome in zip(audios, outcomes, strict=True):
            assert outcome == expected(audio) or isinstance(outcome, NotReady)
        assert sum(isinstance(outcome, str) for outcome in outcomes) >= 10
        again = await asyncio.gather(
            *(heard(edge_llm, audio, call(f"m{at}")) for at, audio in enumerate(audios[:10]))
        )
        assert again == [expected(audio) for audio in audios[:10]]


async def test_units_of_a_unit_managers_earlier_life_that_answer_too_are_made_to_exit() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        for meeting in ("a", "b", "c"):
            await heard(edge_llm, speech(1), call(meeting))
        await restart(manager)
        manager.begin_again(answered_also_by="llm.1002")
        assert await heard(edge_llm, speech(2), call("c")) == expected(speech(2))
        assert sorted(frame["work_id"] for frame in manager.actions("exit")) == ["llm.1001", "llm.1002"]


@pytest.mark.parametrize("meeting", ["a", "new"])
async def test_so_are_those_of_sessions_that_nobody_used_when_it_restarted(meeting: str) -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        for idle in ("a", "b", "c"):
            await heard(edge_llm, speech(1), call(idle))
        await restart(manager)
        manager.begin_again(answered_also_by="llm.1002")
        assert await heard(edge_llm, speech(2), call(meeting)) == expected(speech(2))


async def test_a_unit_manager_that_is_away_is_not_ready() -> None:
    manager = UnitManager()
    await manager.start()
    await manager.stop()
    async with runtime(manager) as edge_llm:
        with pytest.raises(NotReady, match="the unit manager cannot be reached: Connection refused"):
            await heard(edge_llm, speech(1))
        readiness = await edge_llm.readiness()
        assert not readiness.ready and "cannot be reached" in readiness.problems[0]


@pytest.mark.parametrize(
    ("code", "message", "kind", "advice"),
    [
        (-11, "Task run failed.", RuntimeFailed, ""),
        (-2, "json format error", RuntimeFailed, "splits its input by line"),
        (-9, "unit call false", NotReady, "the llm node is not running"),
        (-21, "task full", Busy, "max_sessions"),
    ],
)
async def test_errors_of_unit_manager_and_units_are_reported(
    code: int, message: str, kind: type[ServiceError], advice: str
) -> None:
    error = {"request_id": "$request_id", "work_id": "llm.1", "error": {"code": code, "message": message}}
    script = [*SETUP_DONE, REQUEST, {"send": [error]}]
    async with UnitManager(script=script) as manager, runtime(manager) as edge_llm:
        with pytest.raises(kind) as failed:
            await heard(edge_llm, speech(1))
        assert f"edge-llm error (code {code}): {message}" in str(failed.value)
        assert advice in str(failed.value)


@pytest.mark.parametrize(
    "reply",
    [
        "not json\n",
        "[]\n",
        '{"request_id":"$request_id","data":{"delta":1,"finish":true}}\n',
        "x" * 5_000_000,
    ],
    ids=["no json", "no object", "no delta", "endless line"],
)
async def test_what_is_no_reply_fails_the_request_and_closes_the_session(reply: str) -> None:
    script = [*SETUP_DONE, REQUEST, {"raw": reply}]
    async with UnitManager(script=script) as manager, runtime(manager) as edge_llm:
        with pytest.raises(RuntimeFailed):
            await heard(edge_llm, speech(1))
        assert len(edge_llm.pool) == 0


async def test_a_setup_without_work_id_is_an_error_naming_it() -> None:
    script = [{"expect": "setup"}, {"send": [{"request_id": "$request_id"}]}]
    async with UnitManager(script=script) as manager, runtime(manager) as edge_llm:
        with pytest.raises(RuntimeFailed, match="work_id"):
            await heard(edge_llm, speech(1))


# Deadlines and cancellation -----------------------------------------------------------------------------


async def test_a_request_that_takes_longer_than_its_time_is_timed_out() -> None:
    async with UnitManager(answer_delay=0.5) as manager, runtime(manager) as edge_llm:
        with pytest.raises(RuntimeTimeout, match=r"speech_recognition took longer than 0\.2 s"):
            await heard(edge_llm, speech(1), call(timeout=0.2))
        assert await heard(edge_llm, speech(2)) == expected(speech(2))
        assert len(manager.actions("setup")) == 1, "the late answer was read and the session is used on"


async def test_a_request_that_waits_too_long_for_a_session_is_refused_with_a_time_to_retry() -> None:
    async with UnitManager(answer_delay=0.5) as manager, runtime(manager) as edge_llm:
        first = asyncio.create_task(heard(edge_llm, speech(1)))
        await asyncio.sleep(0.1)
        with pytest.raises(Busy):
            await heard(edge_llm, speech(2), call(timeout=0.1))
        assert await first == expected(speech(1))


async def test_a_unit_that_never_answers_is_left_and_the_next_request_gets_a_new_session() -> None:
    async with (
        UnitManager(answer_delay=60) as manager,
        runtime(manager, edge={"timeout": 0.2}) as edge_llm,
    ):
        with pytest.raises(RuntimeTimeout, match=r"asr did not answer within 0\.2 s"):
            await heard(edge_llm, speech(1))
        manager.answer_delay = 0
        assert await heard(edge_llm, speech(2)) == expected(speech(2))
        assert len(manager.actions("setup")) == 2


async def test_the_reason_for_a_timeout_says_when_the_delay_between_frames_used_the_time_up() -> None:
    slow = {"audio_stream_chunk_delay_ms": 10}
    async with UnitManager() as manager, runtime(manager, request=slow) as edge_llm:
        with pytest.raises(RuntimeTimeout, match="audio_stream_chunk_delay_ms 10 take"):
            await heard(edge_llm, speech(1, 10), call(timeout=0.3))


@hypothesis_settings(max_examples=15, deadline=None)
@given(st.floats(0, 0.25))
async def test_a_cancelled_request_never_leaves_its_answer_to_the_next(after: float) -> None:
    slow = {"audio_stream_chunk_delay_ms": 2}
    async with UnitManager(answer_delay=0.03) as manager, runtime(manager, request=slow) as edge_llm:
        cancelled = asyncio.create_task(heard(edge_llm, speech(1, 0.5)))
        await asyncio.sleep(after)
        cancelled.cancel()
        assert await heard(edge_llm, speech(2)) == expected(speech(2))
        assert len(manager.actions("setup")) == 1
        assert len(manager.units) == 1


async def test_a_cancelled_wait_for_a_session_gives_its_turn_to_the_next() -> None:
    async with UnitManager(answer_delay=0.05) as manager, runtime(manager) as edge_llm:
        tasks = [asyncio.create_task(heard(edge_llm, speech(at))) for at in range(4)]
        await asyncio.sleep(0.02)
        tasks[1].cancel()
        tasks[2].cancel()
        assert await tasks[3] == expected(speech(3))
        assert await tasks[0] == expected(speech(0))


# Readiness and warming ----------------------------------------------------------------------------------


async def test_readiness_sets_every_model_up_once_and_answers_fast() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        for _ in range(3):
            begun = asyncio.get_running_loop().time()
            readiness = await edge_llm.readiness()
            assert readiness.ready and readiness.problems == []
            assert asyncio.get_running_loop().time() - begun < 1
        assert sorted(frame["data"]["model"] for frame in manager.actions("setup")) == [
            "asr",
            "emotion",
            "synthesis",
        ]


async def test_readiness_names_a_model_that_cannot_be_set_up_and_why() -> None:
    async with UnitManager(refused=frozenset({"emotion"})) as manager, runtime(manager) as edge_llm:
        readiness = await edge_llm.readiness()
        assert readiness.problems == ["emotion: emotion: edge-llm error (code -5): Model loading failed."]


async def test_readiness_says_that_the_llm_node_is_missing() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        manager.has_llm_node = False
        [problem] = (await edge_llm.readiness()).problems
        assert "has no llm node" in problem
        manager.has_llm_node = True
        assert (await edge_llm.readiness()).ready


async def test_after_an_llm_node_was_away_its_old_sessions_are_not_used_again() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        await heard(edge_llm, speech(1))
        manager.has_llm_node = False
        await edge_llm.readiness()
        await edge_llm.readiness()
        manager.has_llm_node = True
        assert await heard(edge_llm, speech(1)) == expected(speech(1))
        assert len(manager.actions("setup")) == 2
        assert manager.actions("exit") == [], "a restarted node does not know the old session"


async def test_a_silent_unit_manager_is_not_ready_within_a_second() -> None:
    async with UnitManager(script=[{"pause": 30}]) as manager, runtime(manager) as edge_llm:
        begun = asyncio.get_running_loop().time()
        readiness = await edge_llm.readiness()
        assert not readiness.ready and "did not answer" in readiness.problems[0]
        assert asyncio.get_running_loop().time() - begun < 1


async def test_warming_sets_the_meetings_session_up() -> None:
    async with UnitManager() as manager, runtime(manager) as edge_llm:
        status = await edge_llm.warm(Task.ASR, call("a"))
        assert status.ready and status.model_name == "asr"
        await heard(edge_llm, speech(1), call("a"))
        assert len(manager.actions("setup")) == 1


async def until(condition: Callable[[], bool]) -> bool:
    for _ in range(6000):
        if condition():
            return True
        await asyncio.sleep(0.01)
    return False


async def restart(manager: UnitManager, away: float = 0.0) -> None:
    """Cuts every connection, drops every unit, stays away for some seconds, and listens on the same port
    again."""
    await manager.stop()
    await asyncio.sleep(away)
    await manager.start()
