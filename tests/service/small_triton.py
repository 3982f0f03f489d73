"""A real Triton with tiny Python models. Tests can kill it and start it again on the same ports."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import grpc

from infra.embedded.triton import find_installation, install_backends, server_process
from infra.triton_arguments import TritonPorts
from tests.ports import free_ports
from tests.triton_server import MODELS_VENV, remove_shared_memory, shared_memory_prefix

#: Returns properties of its input: the logits are the first sample, the last, and the length in seconds.
#: With a first sample of 1 it takes a second, with -1 it fails, with 0.5 it refuses.
EMOTION = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        audio = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy().copy()
        if audio[0] > 0.99:
            time.sleep(1)
        if audio[0] < -0.99:
            raise RuntimeError("the model broke")
        if audio[0] == 0.5:
            refusal = pb_utils.TritonError("audio_input: not this", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(error=refusal)
        logits = np.array([audio[0], audio[-1], len(audio) / 16000], np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
"""

#: Returns the length of the text.
EMOTION_TEXT = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()[0].decode()
        logits = np.array([len(text), 0, 0], np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("logits", logits)])
"""

#: The probability is the mean of the features, squashed into 0 to 1.
SYNTHESIS = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        mel = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy()
        score = np.array([1 / (1 + np.exp(-mel.mean()))], np.float32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("synthesis_output", score)])
"""

#: Returns its input.
ASR = """
import json
import numpy as np
import triton_python_backend_utils as pb_utils

def text(request, name):
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy().reshape(-1)[0].decode()

class TritonPythonModel:
    def execute(self, requests):
        return [self.one(request) for request in requests]

    def one(self, request):
        audio = pb_utils.get_input_tensor_by_name(request, "audio_input").as_numpy()
        answer = json.dumps([audio.size, text(request, "language"), text(request, "options")])
        segment = {"id": 0, "start": 0.0, "end": 1.0, "text": answer}
        segment.update(avg_logprob=-0.5, no_speech_prob=0.1)
        language = text(request, "language") or "en"
        strings = {"text": answer, "language": language, "segments": json.dumps([segment])}
        tensors = [
            pb_utils.Tensor(name, np.array([[value.encode()]], object)) for name, value in strings.items()
        ]
        tensors.append(pb_utils.Tensor("confidence", np.array([[0.5]], np.float32)))
        return pb_utils.InferenceResponse(tensors)
"""

_CONFIG = """
backend: "python"
max_batch_size: {batch}
input [ {inputs} ]
output [ {outputs} ]
instance_group [{{ kind: KIND_CPU count: 1 }}]
{more}
"""

_LABELS = 'parameters [{ key: "labels" value: { string_value: "[\\"first\\", \\"last\\", \\"length\\"]" } }]'

_CARD = """parameters [
  { key: "content_hash" value: { string_value: "0123456789abcdef" } },
  { key: "model_card" value: { string_value: '{"kind": "rule", "caveat": "the mean of the features"}' } }
]"""


def tensor(name: str, kind: str, dims: str, more: str = "") -> str:
    return f'{{ name: "{name}" data_type: TYPE_{kind} dims: {dims} {more} }}'


def write_models(repository: Path) -> Path:
    """Writes the four models of the service's default settings."""
    audio = tensor("audio_input", "FP32", "[ -1 ]")
    logits = tensor("logits", "FP32", "[ 3 ]")
    texts = [tensor(name, "STRING", "[ 1 ]") for name in ("text", "language", "segments")]
    asked = [tensor(name, "STRING", "[ 1 ]", "optional: true") for name in ("language", "options")]
    write_model(repository, "emotion", EMOTION, [audio], [logits], _LABELS)
    write_model(
        repository, "emotion-text", EMOTION_TEXT, [tensor("text", "STRING", "[ 1 ]")], [logits], _LABELS
    )
    write_model(
        repository,
        "synthesis",
        SYNTHESIS,
        [tensor("audio_input", "FP32", "[ 80, -1 ]")],
        [tensor("synthesis_output", "FP32", "[ 1 ]")],
        _CARD,
    )
    write_model(
        repository, "asr", ASR, [audio, *asked], [*texts, tensor("confidence", "FP32", "[ 1 ]")], batch=8
    )
    return repository


def write_model(
    repository: Path,
    name: str,
    code: str,
    inputs: list[str],
    outputs: list[str],
    more: str = "",
    batch: int = 0,
) -> None:
    """Writes one model with its configuration."""
    folder = repository / name / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(code)
    config = _CONFIG.format(inputs=", ".join(inputs), outputs=", ".join(outputs), more=more, batch=batch)
    (folder.parent / "config.pbtxt").write_text(f'name: "{name}"{config}')


class SmallTriton:
    """A Triton server over `repository`, with its files and log in `folder`.

    It loads `models` (None: all), and models on request unless `loads_on_request` is false.
    """

    def __init__(
        self,
        folder: Path,
        repository: Path,
        *extra_args: str,
        models: Sequence[str] | None = None,
        loads_on_request: bool = True,
    ) -> None:
        installation = find_installation(MODELS_VENV)
        self.ports = TritonPorts(*free_ports(3))
        self.repository = repository
        self._shared_memory = shared_memory_prefix()
        self._process = server_process(
            installation,
            shared_memory_prefix=self._shared_memory,
            backends=install_backends(installation, folder / "backends"),
            model_repository=repository,
            ports=self.ports,
            models=models,
            extra_args=extra_args,
        )
        if not loads_on_request:
            explicit = ("--model-control-mode", "--load-model")
            self._process.command[:] = [a for a in self._process.command if not a.startswith(explicit)]
        self._log = folder / "triton.log"
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ports.grpc}"

    def start(self) -> None:
        """Starts the server and waits until it is ready."""
        with self._log.open("a") as log:
            self._server = subprocess.Popen(
                self._process.command,
                env=self._process.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that a test can kill the models' processes with it
            )
        channel = grpc.insecure_channel(self.address)
        deadline = time.monotonic() + 30
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        while time.monotonic() < deadline:
            try:
                # ServerReadyResponse{ready: true}
                if ready(b"", timeout=1, wait_for_ready=False) == b"\x08\x01":
                    channel.close()
                    return
            except grpc.RpcError:
                pass
            if self._server.poll() is not None:
                break
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"Triton did not become ready:\n{self._log.read_text()[-4000:]}")

    def kill(self) -> None:
        """Kills the server and the processes of its models with SIGKILL."""
        assert self._server is not None
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        remove_shared_memory(self._shared_memory)

    def freeze(self) -> None:
        """Stops the process with SIGSTOP; returns when all its threads stand still. The kernel still accepts
        connections for it."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGSTOP)
        threads = list(Path(f"/proc/{self._server.pid}/task").iterdir())
        while any(thread.joinpath("stat").read_text().rpartition(") ")[2][0] != "T" for thread in threads):
            time.sleep(0.01)

    def thaw(self) -> None:
        """Continues the stopped process."""
        assert self._server is not None
        os.kill(self._server.pid, signal.SIGCONT)

    def kill_model(self, name: str) -> None:
        """Kills the process of one model with SIGKILL, as the kernel does when memory is short."""
        wanted = f"{self.repository}/{name}/1/model.py".encode()
        (pid,) = (
            path.parent.name
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if _arguments(path)[1:2] == [wanted]
        )
        os.kill(int(pid), signal.SIGKILL)

    def stop(self) -> None:
        """Stops the server in any state."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        remove_shared_memory(self._shared_memory)


def _arguments(cmdline: Path) -> list[bytes]:
    """The arguments of a process; none if it has just ended."""
    try:
        return cmdline.read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
