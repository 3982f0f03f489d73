"""Windows in a real Triton: batched, by priority, given up when the client leaves, for any model's shape."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.runtimes import build_runtime
from inference_service.runtimes.base import Call
from inference_service.settings import load
from inference_service.tasks import TranscribeOptions
from tests.service.small_triton import SmallTriton, tensor, write_model
from tests.triton_server import MODELS_VENV

pytestmark = pytest.mark.skipif(
    not (MODELS_VENV / "bin" / "python").exists(), reason="the models' environment is not there"
)

RATE = 16000

#: Takes 0.3 s for a call with any number of requests; tells how many there were, and the options of each.
LISTENER = """
import json, time
import numpy as np
import triton_python_backend_utils as pb_utils

def text(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)[0].decode()

class TritonPythonModel:
    def initialize(self, args):
        self.batched = json.loads(args["model_config"])["max_batch_size"] > 0

    def execute(self, requests):
        time.sleep(0.3)
        return [self.one(request) for request in requests]

    def one(self, request):
        audio = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy()
        said = json.dumps([list(audio.shape), text(request, "options")])
        shape = (1, 1) if self.batched else (1,)
        strings = {"text": said, "language": text(request, "language") or "en", "segments": "[]"}
        tensors = [
            pb_utils.Tensor(name, np.array([value.encode()], object).reshape(shape))
            for name, value in strings.items()
        ]
        tensors.append(pb_utils.Tensor("confidence", np.full(shape, 0.5, np.float32)))
        return pb_utils.InferenceResponse(tensors)
"""

BATCHING = """
dynamic_batching { max_queue_delay_microseconds: 20000 priority_levels: 3 default_priority_level: 2 }
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallTriton]:
    """Models that take [1, n] with options, [1, n] without, and [n] without."""
    folder = tmp_path_factory.mktemp("triton")
    texts = [tensor(name, "STRING", "[ 1 ]") for name in ("text", "language", "segments")]
    outputs = [*texts, tensor("confidence", "FP32", "[ 1 ]")]
    asked = [tensor(name, "STRING", "[ 1 ]", "optional: true") for name in ("language", "options")]
    ragged = tensor("audio_input", "FP32", "[ -1 ]", "allow_ragged_batch: true")
    plain = tensor("audio_input", "FP32", "[ -1 ]")
    repository = folder / "models"
    write_model(repository, "batched", LISTENER, [ragged, *asked], outputs, BATCHING, batch=8)
    write_model(repository, "without-options", LISTENER, [ragged], outputs, batch=8)
    # Triton drops cancelled requests from the queue of dynamic batching, not from that of a model without it.
    write_model(repository, "one-by-one", LISTENER, [ragged, *asked], outputs, BATCHING, batch=1)
    write_model(repository, "one-dimension", LISTENER, [plain], outputs)
    server = SmallTriton(folder, repository)
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def node(triton: SmallTriton, folder: Path, model: str) -> AsyncIterator[Engine]:
    settings, _ = load(
        None,
        {
            "AI__RUNTIME__TRITON__ENDPOINT": triton.address,
            "AI__MODELS__ASR__MODEL_NAME": model,
            "AI__MODELS__EMOTION__ENABLED": "false",
            "AI__MODELS__SYNTHESIS__ENABLED": "false",
            "SERVER__WORKERS": "1",
            "SERVER__RUNTIME_DIR": str(folder),
        },
    )
    engine = Engine(settings, build_runtime(settings))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def noise(seconds: float) -> Audio:
    return Audio(np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32), RATE)


def statistics(triton: SmallTriton, model: str) -> tuple[int, int]:
    """Requests that were inferred, and executions of the model."""
    with tritonclient.grpc.InferenceServerClient(triton.address) as client:
        (found,) = client.get_inference_statistics(model).model_stats
        return found.inference_count, found.execution_count


@pytest.mark.parametrize(
    ("model", "shape"), [("batched", [1, -1]), ("without-options", [1, -1]), ("one-dimension", [-1])]
)
async def test_models_get_windows_in_the_shape_that_they_take(
    triton: SmallTriton, tmp_path: Path, model: str, shape: list[int]
) -> None:
    async with node(triton, tmp_path, model) as engine:
        parts = [
            json.loads(part.transcript.text)
            async for part in engine.transcribe_in_parts(noise(70), TranscribeOptions(), Call("test"))
        ]
    assert len(parts) == 3
    assert sum(got[-1] for got, _ in parts) == 70 * RATE
    assert all(got[:-1] == shape[:-1] and got[-1] <= 30 * RATE for got, _ in parts)
    for _, options in parts:
        assert options is None if model != "batched" else json.loads(options) == {"priority": 3}


async def test_windows_of_several_recordings_are_batched(triton: SmallTriton, tmp_path: Path) -> None:
    async with node(triton, tmp_path, "batched") as engine:
        before = statistics(triton, "batched")
        recordings = [engine.transcribe(noise(80), TranscribeOptions("en"), Call("test")) for _ in range(4)]
        await asyncio.gather(*recordings)
        requests, executions = np.subtract(statistics(triton, "batched"), before)
    assert requests == 12
    assert executions <= requests / 2


async def test_triton_puts_short_before_long(triton: SmallTriton, tmp_path: Path) -> None:
    async with node(triton, tmp_path, "batched") as engine:
        long = [
            asyncio.create_task(engine.transcribe(noise(240), TranscribeOptions("en"), Call("long")))
            for _ in range(3)
        ]
        await asyncio.sleep(0.5)  # three times eight windows: three executions of 0.3 s
        begun = asyncio.get_running_loop().time()
        heard = await engine.transcribe(noise(3), TranscribeOptions("en"), Call("short"))
        took = asyncio.get_running_loop().time() - begun
        assert not any(each.done() for each in long)
        assert json.loads(json.loads(heard.transcript.text)[1]) == {"priority": 2}
        await asyncio.gather(*long)
    assert took < 2.0


async def test_a_client_that_leaves_takes_its_windows_out_of_tritons_queue(
    triton: SmallTriton, tmp_path: Path
) -> None:
    async with node(triton, tmp_path, "one-by-one") as engine:
        before = statistics(triton, "one-by-one")[1]
        leaving = asyncio.create_task(engine.transcribe(noise(600), TranscribeOptions("en"), Call("leaves")))
        await asyncio.sleep(1.0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await engine.transcribe(noise(3), TranscribeOptions("en"), Call("next"))
        executions = statistics(triton, "one-by-one")[1] - before
    assert executions <= 8  # of more than twenty windows: those of a second, one under way, and the clip
