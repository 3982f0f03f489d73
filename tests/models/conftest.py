"""One Triton with every model, for all tests of the models, and the recording in the formats that they
need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tritonclient.grpc
from numpy.typing import NDArray

from tests.triton_server import triton_server

RECORDINGS = Path(__file__).parents[2] / "recordings"

_DATATYPES = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64", np.dtype(object): "BYTES"}


@dataclass(frozen=True)
class Heard:
    """The answer of `asr`."""

    text: str
    confidence: float
    language: str
    segments: list[dict]


class Models:
    """A gRPC client of Triton's models."""

    def __init__(self, address: str) -> None:
        self.client = tritonclient.grpc.InferenceServerClient(address)

    def infer(self, model: str, **inputs: NDArray) -> dict[str, NDArray]:
        tensors = []
        for name, array in inputs.items():
            tensor = tritonclient.grpc.InferInput(name, array.shape, _DATATYPES[array.dtype])
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        result = self.client.infer(model, tensors)
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def asr(self, audio: NDArray, language: str | None = None, options: str | None = None) -> Heard:
        inputs = {"audio_input": audio.astype(np.float32)[None]}
        if language is not None:
            inputs["language"] = np.array([[language.encode()]], object)
        if options is not None:
            inputs["options"] = np.array([[options.encode()]], object)
        answer = self.infer("asr", **inputs)
        return Heard(
            answer["text"][0, 0].decode(),
            float(answer["confidence"][0, 0]),
            answer["language"][0, 0].decode(),
            json.loads(answer["segments"][0, 0]),
        )


def languages_of(models: Models) -> list[str]:
    """The languages of `asr`, as the service asks for them."""
    audio = tritonclient.grpc.InferInput("audio_input", (1, 1), "FP32")
    audio.set_data_from_numpy(np.zeros((1, 1), np.float32))
    wanted = [tritonclient.grpc.InferRequestedOutput("languages")]
    answer = models.client.infer("asr", [audio], outputs=wanted)
    return json.loads(answer.as_numpy("languages")[0, 0])


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    folder = tmp_path_factory.mktemp("triton")
    with triton_server(folder, environment={"ASR_MODEL_PATH": "tiny.en"}) as ports:
        yield Models(f"127.0.0.1:{ports.grpc}")


@pytest.fixture(scope="session")
def speech() -> NDArray[np.float32]:
    """The bundled recording: 11 s, 16 kHz."""
    samples, rate = soundfile.read(RECORDINGS / "inaugural-1961.flac", dtype="float32")
    assert rate == 16000
    return samples


@pytest.fixture(scope="session")
def words() -> str:
    """The words of the recording."""
    return (RECORDINGS / "inaugural-1961.txt").read_text(encoding="utf-8")
