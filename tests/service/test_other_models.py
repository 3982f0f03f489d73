"""Other people's speech models by settings alone, in a real Triton.

The settings and Parakeet's folder are those of docs/other-models.md. The doubles stand for what needs
a GPU: a model with the tensors of TensorRT-LLM's `whisper_bls`, and the package NeMo under Parakeet's folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.errors import BadRequest
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton import TritonRuntime
from inference_service.settings import Settings
from inference_service.tasks import DetailedTranscript, TranscribeOptions
from infra.paths import PACKAGE
from infra.stack import parse
from infra.triton_arguments import models_in_use
from tests.service.small_triton import SmallTriton, tensor, write_model
from tests.triton_server import MODELS_VENV

pytestmark = pytest.mark.skipif(
    not (MODELS_VENV / "bin" / "python").exists(), reason="the models' environment is not there"
)

PAGE = (PACKAGE / "docs" / "other-models.md").read_text(encoding="utf-8")

#: A double of TensorRT-LLM's `whisper_bls`. It has the tensors of its public config.pbtxt, reads them as its
#: model.py does and answers with what it was given.
WHISPER_BLS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        prefix = pb_utils.get_input_tensor_by_name(request, "TEXT_PREFIX").as_numpy().tolist()[0][0].decode()
        wav = pb_utils.get_input_tensor_by_name(request, "WAV").as_numpy()
        assert wav.shape[0] == 1
        length = pb_utils.get_input_tensor_by_name(request, "WAV_LENS").as_numpy().item()
        text = f"{prefix} {len(wav[0])} {length} {wav[0][0]:.2f}"
        return pb_utils.InferenceResponse([pb_utils.Tensor("TRANSCRIPTS", np.array([text], np.object_))])
"""

#: A double of NeMo: `transcribe` takes waveforms and returns hypotheses, as NeMo's does.
NEMO = """
class Hypothesis:
    def __init__(self, text):
        self.text = text

class ASRModel:
    @staticmethod
    def restore_from(path, map_location):
        open(path).close()
        return ASRModel()

    def eval(self):
        return self

    def transcribe(self, audio, batch_size, verbose):
        assert batch_size == len(audio)
        return [Hypothesis(f"{len(each)} samples from {each[0]:.2f}") for each in audio]
"""


def block(kind: str, name: str) -> str:
    """The block of the page after the comment `<!-- kind: name -->`."""
    found = re.search(rf"<!-- {kind}: {name} -->\n```\w*\n(.*?)```", PAGE, re.S)
    assert found, f"docs/other-models.md has no block {kind}: {name}"
    return found[1]


def write_whisper_bls(repository: Path, name: str = "whisper_bls", more: str = "") -> None:
    inputs = [
        tensor("TEXT_PREFIX", "STRING", "[ 1 ]"),
        tensor("WAV", "FP32", "[ -1 ]"),
        tensor("WAV_LENS", "INT32", "[ 1 ]", "optional: True"),
    ]
    outputs = [tensor("TRANSCRIPTS", "STRING", "[ 1 ]")]
    write_model(repository, name, WHISPER_BLS, inputs, outputs, f"dynamic_batching {{ }} {more}", batch=8)


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallTriton]:
    folder = tmp_path_factory.mktemp("other-models")
    repository = folder / "models"
    write_whisper_bls(repository)
    write_whisper_bls(repository, "streaming", "model_transaction_policy { decoupled: True }")
    # It stands for the backend tensorrtllm, which whisper_bls calls: that it is loaded is what matters here.
    write_model(
        repository,
        "tensorrt_llm",
        "class TritonPythonModel: pass",
        [tensor("input_ids", "INT32", "[ -1 ]")],
        [tensor("output_ids", "INT32", "[ -1 ]")],
    )
    parakeet = repository / "parakeet" / "1"
    nemo = parakeet / "nemo" / "collections" / "asr"
    nemo.mkdir(parents=True)
    (nemo / "models.py").write_text(NEMO)
    (parakeet / "parakeet.nemo").touch()
    (parakeet / "model.py").write_text(block("model", "parakeet"))
    (parakeet.parent / "config.pbtxt").write_text(block("config", "parakeet"))
    server = SmallTriton(folder, repository)
    server.start()
    yield server
    server.stop()


def settings(triton: SmallTriton, name: str, **changed: Any) -> Settings:
    """The settings of the page for one model, and Triton's address."""
    models = yaml.safe_load(block("settings", name))["ai"]["models"]
    models["asr"] |= changed
    off = {"enabled": False}
    return Settings.model_validate(
        {
            "ai": {
                "runtime": {"triton": {"endpoint": triton.address}},
                "models": {**models, "emotion": off, "synthesis": off},
            }
        }
    )


async def hear(settings: Settings, options: TranscribeOptions | None = None) -> DetailedTranscript:
    """The transcript of a second at 16 kHz that begins with 0.25."""
    waveform = np.zeros(16000, np.float32)
    waveform[0] = 0.25
    runtime = TritonRuntime(settings)
    await runtime.start()
    try:
        assert (await runtime.readiness()).problems == []
        return await runtime.transcribe(Audio(waveform, 16000), options or TranscribeOptions(), Call("r"))
    finally:
        await runtime.close()


async def problems(settings: Settings) -> list[str]:
    runtime = TritonRuntime(settings)
    await runtime.start()
    try:
        return (await runtime.readiness()).problems
    finally:
        await runtime.close()


async def test_a_recording_longer_than_the_model_takes_is_sent_in_windows(
    triton: SmallTriton, tmp_path: Path
) -> None:
    chosen = settings(triton, "whisper_bls")
    server = {"workers": 1, "runtime_dir": str(tmp_path)}
    chosen = Settings.model_validate({**chosen.model_dump(), "server": server})
    engine = Engine(chosen, TritonRuntime(chosen))
    await engine.start()
    try:
        noise = np.random.default_rng(0).normal(0, 0.1, 16000 * 70).astype(np.float32)
        heard = await engine.transcribe(Audio(noise, 16000), TranscribeOptions(), Call("r"))
    finally:
        await engine.close()
    lengths = [int(length) for length in re.findall(r"notimestamps\|> (\d+) ", heard.transcript.text)]
    assert len(lengths) >= 3
    assert max(lengths) <= 30 * 16000
    assert (heard.transcript.language, heard.transcript.confidence) == ("en", None)
    assert heard.transcript.duration_ms == 70_000


@pytest.mark.parametrize(
    ("asked", "language", "told"), [(None, "en", "en"), ("de", "de", "de"), ("pt-BR", "pt-BR", "pt")]
)
async def test_whisper_bls_gets_waveform_length_and_the_language_in_its_prefix(
    triton: SmallTriton, asked: str | None, language: str, told: str
) -> None:
    heard = await hear(settings(triton, "whisper_bls"), TranscribeOptions(language=asked))
    prefix = f"<|startoftranscript|><|{told}|><|transcribe|><|notimestamps|>"
    assert heard.transcript.text == f"{prefix} 16000 16000 0.25"
    assert heard.transcript.language == language
    assert heard.transcript.confidence is None
    assert heard.segments == []


async def test_a_language_that_fits_no_prefix_is_refused(triton: SmallTriton) -> None:
    with pytest.raises(BadRequest, match="language: expected a code such as en or de, got 'klingon'"):
        await hear(settings(triton, "whisper_bls"), TranscribeOptions(language="klingon"))


async def test_whisper_bls_translates_by_its_prefix(triton: SmallTriton) -> None:
    heard = await hear(settings(triton, "whisper_bls"), TranscribeOptions(language="de", translate=True))
    assert heard.transcript.text.startswith("<|startoftranscript|><|de|><|translate|><|notimestamps|>")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"translate": True}, "model: the model parakeet cannot translate"),
        ({"prompt": "Boise"}, "prompt: the model parakeet does not take it"),
        ({"carry_text": True}, "prompt: the model parakeet does not take it"),
        ({"temperature": 0.2}, "temperature: the model parakeet does not take it"),
        ({"hotwords": "Boise"}, "hotwords: the model parakeet does not take it"),
        ({"languages": ("de", "en")}, "languages: the model parakeet does not take it"),
    ],
    ids=str,
)
async def test_an_option_that_the_model_has_no_input_for_is_refused_by_name(
    triton: SmallTriton, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadRequest, match=reason):
        await hear(settings(triton, "parakeet"), TranscribeOptions(**options))


async def test_parakeet_gets_the_waveform_and_its_length(triton: SmallTriton) -> None:
    heard = await hear(settings(triton, "parakeet"))
    assert heard.transcript.text == "16000 samples from 0.25"
    assert heard.transcript.language == "en"


async def test_without_any_word_on_the_language_it_is_undetermined(triton: SmallTriton) -> None:
    heard = await hear(settings(triton, "parakeet", default_language=None))
    assert heard.transcript.language == "und"


async def test_a_model_that_another_one_calls_must_be_ready_too(triton: SmallTriton) -> None:
    asked = settings(triton, "whisper_bls", requires=["tensorrt_llm", "postprocessing"])
    assert await problems(asked) == ["model postprocessing is not ready: it is not in the model repository"]


async def test_a_decoupled_model_is_named_with_the_setting_that_makes_it_so(triton: SmallTriton) -> None:
    (problem,) = await problems(settings(triton, "whisper_bls", model_name="streaming"))
    assert problem.startswith("model streaming: is decoupled (model_transaction_policy)")


async def test_an_input_that_the_settings_do_not_name_is_reported(triton: SmallTriton) -> None:
    (problem,) = await problems(settings(triton, "whisper_bls", prefix_name=None))
    assert problem == (
        "model whisper_bls: needs the input TEXT_PREFIX (BYTES [-1, 1]), which the service does not send"
    )


async def test_a_length_of_another_datatype_is_reported(triton: SmallTriton) -> None:
    (problem,) = await problems(settings(triton, "whisper_bls", lengths_name="WAV", input_name="WAV"))
    assert "input 'WAV' has datatype FP32, expected INT32 or INT64" in problem


def test_a_node_loads_the_model_and_those_that_it_calls() -> None:
    config = yaml.safe_load(block("settings", "whisper_bls"))
    off = {"enabled": False}
    config["ai"]["models"] |= {"emotion": off, "synthesis": off}
    stack = parse({"nodes": ["ssh://root@192.0.2.11"], "service": {"config": config}})
    assert models_in_use(stack) == ("tensorrt_llm", "whisper_bls")


@pytest.mark.parametrize("name", ["whisper_bls", "parakeet", "classifier"])
def test_the_settings_of_the_page_are_valid(name: str) -> None:
    assert Settings.model_validate(yaml.safe_load(block("settings", name)))
