"""The Triton runtime against a real Triton server."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc

from inference_service.audio import Audio
from inference_service.errors import (
    BadRequest,
    NotReady,
    RuntimeFailed,
    RuntimeLost,
    RuntimeTimeout,
    Unsupported,
)
from inference_service.model_cards import ModelRole
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton import TritonRuntime, hang
from inference_service.runtimes.triton import models as triton_models
from inference_service.runtimes.triton import shared_memory as shm
from inference_service.runtimes.triton.client import TritonClient
from inference_service.settings import Settings
from inference_service.tasks import ModelKind, Task, TranscribeOptions
from tests.service.small_triton import SmallTriton, tensor, write_model, write_models
from tests.triton_server import MODELS_VENV

pytestmark = pytest.mark.skipif(
    not (MODELS_VENV / "bin" / "python").exists(), reason="the models' environment is not there"
)

CALL = Call("request-1")


#: Stands for a speech model whose weights know two languages.
MULTILINGUAL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        languages = pb_utils.Tensor("languages", np.array(['["en", "ka"]'], object))
        return [pb_utils.InferenceResponse([languages]) for request in requests]
"""


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallTriton]:
    folder = tmp_path_factory.mktemp("small-triton")
    repository = write_models(folder / "models")
    double = tensor("audio_input", "FP64", "[ -1 ]")
    logits = tensor("logits", "FP32", "[ 3, 3 ]")
    write_model(
        repository,
        "mismatched",
        "class TritonPythonModel: pass",
        [double, tensor("more", "FP32", "[ 1 ]")],
        [logits],
    )
    speech = tensor("audio_input", "FP32", "[ -1 ]")
    told = [tensor(name, "STRING", "[ 1 ]") for name in ("text", "languages")]
    write_model(repository, "multilingual", MULTILINGUAL, [speech], told)
    write_model(repository, "broken", "import no_such_module", [double], [logits])
    server = SmallTriton(folder, repository, "--strict-readiness=false")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_triton(tmp_path: Path) -> Iterator[SmallTriton]:
    """A server that the test may kill."""
    server = SmallTriton(tmp_path, write_models(tmp_path / "models"))
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def runtime(
    triton: SmallTriton, shared_memory: str = "auto", **models: Any
) -> AsyncIterator[TritonRuntime]:
    settings = Settings.model_validate(
        {
            "ai": {
                "runtime": {"triton": {"endpoint": triton.address, "shared_memory": shared_memory}},
                "models": models,
            }
        }
    )
    started = TritonRuntime(settings)
    await started.start()
    try:
        yield started
    finally:
        await started.close()


def samples(*values: float, seconds: float = 1.0, rate: int = 16000) -> Audio:
    """Silence of that length that begins with `values`."""
    waveform = np.zeros(int(seconds * rate), np.float32)
    waveform[: len(values)] = values
    return Audio(waveform, rate)


def registered(triton: SmallTriton) -> set[str]:
    with tritonclient.grpc.InferenceServerClient(triton.address) as client:
        return {name for name in client.get_system_shared_memory_status().regions if name.startswith("ai-")}


def files(token: str) -> set[str]:
    return {path.name for path in shm.FOLDER.glob(f"ai-inference-{token}*")}


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Waits until the condition holds, and fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("shared_memory", ["auto", "off"])
async def test_every_task_gets_the_models_answer(triton: SmallTriton, shared_memory: str) -> None:
    async with runtime(triton, shared_memory) as models:
        ramp = Audio(np.linspace(-0.25, 0.25, 32000, dtype=np.float32), 16000)
        emotion = await models.emotion_of_audio(ramp, CALL)
        # softmax of the model's logits: first sample, last sample, 2 seconds
        powers = np.exp([-0.25, 0.25, 2.0])
        assert list(emotion.emotions) == ["first", "last", "length"]
        assert np.allclose(list(emotion.emotions.values()), powers / powers.sum(), atol=1e-6)
        assert (emotion.emotion, emotion.duration_ms) == ("length", 2000)
        assert emotion.confidence == max(emotion.emotions.values())

        text = await models.emotion_of_text("größer", CALL)
        assert (text.emotion, text.duration_ms) == ("first", 0)

        verdict = await models.detect_synthesis(ramp, CALL)
        assert 0 < verdict.score < 1
        assert verdict.is_synthetic == (verdict.score > 0.5)
        assert verdict.confidence == max(verdict.score, 1 - verdict.score)

        options = TranscribeOptions(language="de", word_timestamps=True, prompt="Grüße")
        heard = await models.transcribe(ramp, options, CALL)
        asked = json.loads(heard.transcript.text)
        assert asked[:2] == [32000, "de"]
        assert json.loads(asked[2]) == {"word_timestamps": True, "prompt": "Grüße", "priority": 2}
        assert (heard.transcript.confidence, heard.transcript.language) == (0.5, "de")
        assert heard.segments[0].end == 1.0
        plain = await models.transcribe(ramp, TranscribeOptions(), CALL)
        # Triton batches only requests with the same inputs: both texts go with every one.
        assert json.loads(plain.transcript.text) == [32000, "", '{"priority": 2}']


async def test_stereo_and_other_rates_reach_the_model_as_16_khz_mono(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        audio = Audio(np.full((48000, 2), [16384, 0], np.int16), 48000)
        heard = await models.transcribe(audio, TranscribeOptions(), CALL)
        assert json.loads(heard.transcript.text)[0] == 16000
        assert heard.transcript.duration_ms == 1000
        answer = await models.emotion_of_audio(Audio(np.full((16000, 2), [16384, 0], np.int16), 16000), CALL)
        powers = np.exp([0.25, 0.25, 1.0])
        assert np.allclose(list(answer.emotions.values()), powers / powers.sum(), atol=1e-6)


async def test_concurrent_requests_do_not_mix_their_waveforms(triton: SmallTriton) -> None:
    async with runtime(triton) as models:

        async def one(n: int) -> None:
            level = n / 100
            answer = await models.emotion_of_audio(
                Audio(np.full(800 * (n + 1), level, np.float32), 16000), CALL
            )
            powers = np.exp([level, level, 0.05 * (n + 1)])
            assert np.allclose(list(answer.emotions.values()), powers / powers.sum(), atol=1e-5)

        for _ in range(3):
            await asyncio.gather(*(one(n) for n in range(40)))


async def test_warming_runs_the_models(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        for task in Task:
            status = await models.warm(task, CALL)
            assert (status.ready, status.error) == (True, None)
    async with runtime(triton, emotion={"model_name": "broken"}, asr={"model_name": "absent"}) as models:
        with pytest.raises(RuntimeFailed, match="no_such_module"):
            await models.warm(Task.EMOTION, CALL)
        with pytest.raises(NotReady, match="model absent is not ready: it is not in the model repository"):
            await models.warm(Task.ASR, CALL)


async def test_readiness_gives_tritons_own_reason(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        assert await models.readiness() == await models.readiness()
        assert (await models.readiness()).ready
    async with runtime(triton, emotion={"model_name": "broken"}) as models:
        readiness = await models.readiness()
        assert not readiness.ready
        assert "model broken is not ready" in readiness.problems[0]
        assert "No module named 'no_such_module'" in readiness.problems[0]
        with pytest.raises(NotReady, match="broken"):
            await models.emotion_of_audio(samples(), CALL)


async def test_a_refused_model_that_is_gone_again_makes_no_node_unhealthy(own_triton: SmallTriton) -> None:
    audio, logits = tensor("audio_input", "FP32", "[ -1 ]"), tensor("logits", "FP32", "[ 3 ]")
    write_model(own_triton.repository, "refused", "import no_such_module", [audio], [logits])
    with tritonclient.grpc.InferenceServerClient(own_triton.address) as control:
        with pytest.raises(tritonclient.grpc.InferenceServerException, match="no_such_module"):
            control.load_model("refused")
        shutil.rmtree(own_triton.repository / "refused")
        control.unload_model("refused")
        assert not control.is_server_ready(), "as Triton sees it"
    async with runtime(own_triton) as models:
        assert (await models.readiness()).ready


async def test_a_model_that_does_not_match_is_named_with_the_existing_ones(
    triton: SmallTriton, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        settings = {
            "emotion": {"model_name": "mismatched", "output_names": ["logits"], "text_model_name": ""}
        }
        async with runtime(triton, **settings) as models:
            expected = [
                "model mismatched: input 'audio_input' has datatype FP64, expected FP32",
                "model mismatched: output 'logits' has shape [3, 3], expected [-1]",
                "model mismatched: needs the input more (FP32 [1]), which the service does not send",
                "model mismatched: no labels; set ai.models.emotion.labels_path",
            ]
            problems = (await models.readiness()).problems
            assert len(problems) == len(expected)
            for problem, beginning in zip(problems, expected, strict=True):
                assert problem.startswith(beginning)
                assert problem in caplog.text
            with pytest.raises(NotReady, match="datatype FP64, expected FP32"):
                await models.emotion_of_audio(samples(), CALL)
            with pytest.raises(Unsupported, match="text_model_name"):
                await models.emotion_of_text("hello", CALL)
        async with runtime(triton, asr={"input_name": "wave"}) as models:
            problems = (await models.readiness()).problems
            assert problems[0] == (
                "model asr: input 'wave' is not there; Triton has audio_input (FP32 [-1, -1]), "
                "language (BYTES [-1, 1]), options (BYTES [-1, 1])"
            )


async def test_labels_come_from_the_file_where_one_is_named(triton: SmallTriton, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"

    labels.write_text("a\nb\nc\n")
    async with runtime(triton, emotion={"labels_path": str(labels)}) as models:
        assert list((await models.emotion_of_audio(samples(), CALL)).emotions) == ["a", "b", "c"]
    labels.write_text('["a", "b"]')
    async with runtime(triton, emotion={"labels_path": str(labels)}) as models:
        assert "model emotion: 2 labels for 3 logits in 'logits'" in (await models.readiness()).problems
    async with runtime(triton, emotion={"labels_path": str(tmp_path / "none.json")}) as models:
        assert "none.json cannot be read" in (await models.readiness()).problems[0]


async def test_a_model_s_card_comes_from_its_configuration(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        said = await models.describe(ModelRole.SYNTHESIS)
        assert (said.name, said.version, said.kind) == ("synthesis", "0123456789abcdef", ModelKind.RULE)
        assert said.caveat == "the mean of the features"
        assert models.known(ModelRole.SYNTHESIS) == said
        assert (await models.describe(ModelRole.ASR)).kind is ModelKind.UNKNOWN


async def test_a_model_that_is_not_loaded_says_nothing(triton: SmallTriton) -> None:
    async with runtime(triton, emotion={"model_name": "broken"}) as models:
        assert models.known(ModelRole.EMOTION) is None
        with pytest.raises(NotReady, match="model broken is not ready"):
            await models.describe(ModelRole.EMOTION)


async def test_a_speech_model_tells_the_languages_of_its_weights(triton: SmallTriton) -> None:
    async with runtime(triton, asr={"model_name": "multilingual", "output_names": ["text"]}) as models:
        assert (await models.describe(ModelRole.ASR)).languages == ["en", "ka"]
        known = models.known(ModelRole.ASR)
        assert known is not None
        assert known.languages == ["en", "ka"]
    async with runtime(triton) as models:
        assert (await models.describe(ModelRole.ASR)).languages is None


async def test_a_model_that_was_loaded_anew_is_described_anew(
    own_triton: SmallTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_models, "_MAX_AGE", 0.0)
    async with runtime(own_triton) as models:
        assert (await models.describe(ModelRole.SYNTHESIS)).version == "0123456789abcdef"
        config = tmp_path / "models" / "synthesis" / "config.pbtxt"
        config.write_text(config.read_text().replace("0123456789abcdef", "fedcba9876543210"))
        with tritonclient.grpc.InferenceServerClient(own_triton.address) as client:
            client.load_model("synthesis")
        await models.readiness()
        assert (known := models.known(ModelRole.SYNTHESIS)) is not None
        assert known.version == "fedcba9876543210"


async def test_a_rule_that_is_not_allowed_need_not_match_its_contract(triton: SmallTriton) -> None:
    models = {"synthesis": {"input_name": "wave"}}
    async with runtime(triton, **models) as allowed:
        assert "input 'wave' is not there" in (await allowed.readiness()).problems[0]
    async with runtime(triton, allow_rules=False, **models) as refused:
        assert (await refused.readiness()).ready


async def test_failures_of_the_model_are_distinguished(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        with pytest.raises(RuntimeFailed, match="the model broke") as failure:
            await models.emotion_of_audio(samples(-1.0), CALL)
        assert "model.py" not in str(failure.value)
        with pytest.raises(BadRequest, match="not this"):
            await models.emotion_of_audio(samples(0.5), CALL)
        with pytest.raises(RuntimeTimeout, match="model emotion"):
            await models.emotion_of_audio(samples(1.0), Call("slow", timeout=0.2))


async def test_slots_are_used_again_and_removed_at_the_end(triton: SmallTriton) -> None:
    before = registered(triton)
    async with runtime(triton) as models:
        for _ in range(20):
            await models.emotion_of_audio(samples(), CALL)
        token = models._pool._token
        ours = files(token)
        assert len(ours) == 2  # one slot, one lock
        assert len(registered(triton) & ours) == 1
    assert files(token) == set()
    assert registered(triton) <= before


async def test_shared_memory_of_many_long_requests_is_bounded(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        await asyncio.gather(*(models.emotion_of_audio(samples(seconds=30), CALL) for _ in range(32)))
        assert models._pool.allocated <= 32 * 2 * 1024 * 1024
        # Above the limit the runtime sends tensors over gRPC and gets the same answer.
        models._pool._limit = 0
        answer = await models.emotion_of_audio(samples(0.1, seconds=2), CALL)
        assert answer.emotion == "length"
        # The runtime does not keep a slot for audio over a minute.
        models._pool._limit = 64 * 1024 * 1024
        await models.emotion_of_audio(samples(seconds=120), CALL)
        assert all(slot.size <= 4 * 1024 * 1024 for slot in models._pool._all.values())


async def test_a_cancelled_request_s_slot_rests_before_it_is_used_again(triton: SmallTriton) -> None:
    async with runtime(triton, emotion={"timeout": 1.5}) as models:
        task = asyncio.create_task(models.emotion_of_audio(samples(1.0), CALL))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        (resting,) = models._pool._all
        await models.emotion_of_audio(samples(), CALL)
        assert len(models._pool._all) == 2
        assert [slot.name for slot in models._pool._free[65536]] != [resting]
        await asyncio.sleep(1.6)
        assert {slot.name for slot in models._pool._free[65536]} == set(models._pool._all)


async def test_a_slot_is_not_used_again_while_a_triton_that_hangs_may_read_it(
    own_triton: SmallTriton,
) -> None:
    async with runtime(own_triton) as models:
        await models.emotion_of_audio(samples(), CALL)
        pool = models._pool
        slot = await pool.acquire(64)
        assert slot is not None
        own_triton.freeze()
        try:
            pool.rest(slot, 0.2)  # as after an inference that was given up
            await asyncio.sleep(2)
            assert slot not in pool._free[slot.size]
        finally:
            own_triton.thaw()

        async def is_free() -> bool:
            return slot in pool._free[slot.size]

        await until(is_free)


async def test_only_the_services_user_and_group_can_open_a_slot(triton: SmallTriton) -> None:
    async with runtime(triton) as models:
        await models.emotion_of_audio(samples(), CALL)
        for name in files(models._pool._token):
            assert stat.S_IMODE((shm.FOLDER / name).stat().st_mode) & 0o007 == 0


async def test_what_a_killed_worker_left_is_removed(triton: SmallTriton) -> None:
    leftovers = [shm.FOLDER / "ai-inference-dead00-1", shm.FOLDER / "ai-inference-dead00.lock"]
    for path in leftovers:
        path.write_bytes(b"\0" * 64)
    with tritonclient.grpc.InferenceServerClient(triton.address) as client:
        client.register_system_shared_memory("ai-inference-dead00-1", "/ai-inference-dead00-1", 64)
    async with runtime(triton) as living:
        await living.emotion_of_audio(samples(), CALL)
        async with runtime(triton):
            assert not any(path.exists() for path in leftovers)
            # The running worker keeps its own.
            assert set(living._pool._all) <= registered(triton)
            assert "ai-inference-dead00-1" not in registered(triton)
        await living.emotion_of_audio(samples(), CALL)


async def test_where_shared_memory_is_refused_tensors_go_over_grpc(
    triton: SmallTriton, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As with a Triton on another host, where this memory does not exist.
    monkeypatch.setattr(shm, "FOLDER", tmp_path)

    with caplog.at_level(logging.WARNING):
        async with runtime(triton) as models:
            for _ in range(3):
                assert (await models.emotion_of_audio(samples(), CALL)).emotion == "length"
    records = [record for record in caplog.records if "not through shared memory" in record.message]
    assert len(records) == 1
    assert list(tmp_path.iterdir()) == []


async def test_a_killed_triton_is_noticed_at_once_and_found_again(own_triton: SmallTriton) -> None:
    async with runtime(own_triton) as models:
        running = [asyncio.create_task(models.emotion_of_audio(samples(1.0), CALL)) for _ in range(4)]
        await asyncio.sleep(0.3)
        begun = time.monotonic()
        own_triton.kill()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(outcome, RuntimeLost), outcome
        assert time.monotonic() - begun < 15, "it waited for its deadline"
        begun = time.monotonic()
        assert not (await models.readiness()).ready
        # Triton itself is named where its memory is registered again before the model is asked.
        with pytest.raises(NotReady, match=r"(emotion|Triton) is not ready") as refused:
            await models.emotion_of_audio(samples(), CALL)
        assert not isinstance(refused.value, RuntimeLost), "this one has not run"
        assert own_triton.address not in str(refused.value), "clients do not learn addresses inside the node"
        assert time.monotonic() - begun < 15, "it waited for its deadline"

        await asyncio.to_thread(own_triton.start)
        await until(lambda: _ready(models))
        # The runtime registers its shared memory again.
        assert (await models.emotion_of_audio(samples(), CALL)).emotion == "length"
        assert registered(own_triton)


async def test_a_triton_that_hangs_is_given_up_long_before_the_deadline_and_used_again_when_it_moves(
    own_triton: SmallTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hang, "_INTERVAL", 0.1)
    monkeypatch.setattr(hang, "POLL_TIMEOUT", 0.5)

    async with runtime(own_triton) as models:
        for _ in range(2):
            await models.emotion_of_audio(samples(), CALL)
        own_triton.freeze()
        begun = time.monotonic()
        running = [models.emotion_of_audio(samples(0.5), CALL) for _ in range(4)]
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(outcome, NotReady) for outcome in outcomes), outcomes
        assert any("does not answer" in str(outcome) for outcome in outcomes)
        assert time.monotonic() - begun < 20, "they waited for their deadline of 30 s"
        with monkeypatch.context() as patch, pytest.raises(NotReady, match="does not answer"):
            patch.setattr(hang.HangDetector, "wait_for", None)  # no call is sent to a server that hangs
            await models.emotion_of_audio(samples(), CALL)
        assert not (await models.readiness()).ready
        own_triton.thaw()
        await until(partial(_answers, models))
        answers = [models.emotion_of_audio(samples(), CALL) for _ in range(4)]
        assert {answer.emotion for answer in await asyncio.gather(*answers)} == {"length"}


async def test_a_question_that_a_hanging_triton_does_not_answer_may_be_asked_of_another_node(
    own_triton: SmallTriton,
) -> None:
    client = TritonClient(own_triton.address)
    await client.connected()
    own_triton.freeze()
    try:
        questions = [client.config("emotion"), client.metadata("emotion"), client.registered()]
        for outcome in await asyncio.gather(*questions, return_exceptions=True):
            assert isinstance(outcome, NotReady)
            assert "Triton did not answer within 0.9 s" in str(outcome)
    finally:
        own_triton.thaw()
        await client.close()


async def test_a_triton_that_is_slow_or_loads_a_model_is_not_taken_to_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hang, "_INTERVAL", 0.1)
    monkeypatch.setattr(hang, "POLL_TIMEOUT", 1.0)
    slow_to_load = """
import time
class TritonPythonModel:
    def initialize(self, args):
        time.sleep(3)
"""
    repository = write_models(tmp_path / "models")
    write_model(
        repository, "slow", slow_to_load, [tensor("x", "FP32", "[ 1 ]")], [tensor("y", "FP32", "[ 1 ]")]
    )

    server = SmallTriton(tmp_path, repository, models=["emotion"])
    try:
        await asyncio.to_thread(server.start)
        async with runtime(server) as models:
            loading = asyncio.create_task(models._client.load("slow", 30))
            answers = [models.emotion_of_audio(samples(1.0), CALL) for _ in range(3)]  # one after another
            assert {answer.emotion for answer in await asyncio.gather(*answers)} == {"first"}
            await loading
    finally:
        server.stop()


async def _answers(models: TritonRuntime) -> bool:
    try:
        await models.emotion_of_audio(samples(), CALL)
    except NotReady:
        return False
    return True


async def test_a_model_whose_process_was_killed_is_reported_and_loaded_again(tmp_path: Path) -> None:
    server = SmallTriton(tmp_path, write_models(tmp_path / "models"))
    try:
        await asyncio.to_thread(server.start)
        async with runtime(server) as models, runtime(server) as other_worker:
            for worker in (models, other_worker):
                await worker.emotion_of_audio(samples(), CALL)
            server.kill_model("emotion")
            with pytest.raises(NotReady, match="its process died"):
                await models.emotion_of_audio(samples(), CALL)
            assert "model emotion is not ready: its process died" in (await models.readiness()).problems
            assert (await models.detect_synthesis(samples(), CALL)).duration_ms == 1000
            for worker in (models, other_worker):
                await until(partial(_ready, worker))
                assert (await worker.emotion_of_audio(samples(), CALL)).emotion == "length"
    finally:
        server.kill()  # Triton would wait half a minute for the dead process


async def test_a_dead_model_that_triton_may_not_load_again_is_reported_until_triton_is_restarted(
    tmp_path: Path,
) -> None:
    server = SmallTriton(tmp_path, write_models(tmp_path / "models"), loads_on_request=False)
    try:
        await asyncio.to_thread(server.start)
        async with runtime(server) as models:
            server.kill_model("emotion")
            with pytest.raises(NotReady, match="its process died"):
                await models.emotion_of_audio(samples(), CALL)
            await asyncio.sleep(0.3)
            (problem,) = (await models.readiness()).problems
            assert "not loaded again: " in problem
            server.kill()
            await asyncio.to_thread(server.start)
            await until(lambda: _ready(models))
            assert (await models.emotion_of_audio(samples(), CALL)).emotion == "length"
    finally:
        server.stop()


async def _ready(models: TritonRuntime) -> bool:
    return (await models.readiness()).ready


async def test_a_triton_that_comes_later_is_found(tmp_path: Path) -> None:
    server = SmallTriton(tmp_path, write_models(tmp_path / "models"))
    try:
        async with runtime(server) as models:
            begun = time.monotonic()
            assert not (await models.readiness()).ready
            assert time.monotonic() - begun < 15, "it waited for its deadline"
            await asyncio.to_thread(server.start)
            await until(lambda: _ready(models))
            await models.emotion_of_audio(samples(), CALL)
            assert registered(server)  # shared memory is in use
    finally:
        server.stop()
