"""The arguments of tritonserver, in a container and embedded: one list, so that both treat models alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_service.settings import ModelsSettings
from infra.stack import Stack

#: Seconds between SIGTERM and SIGKILL: Triton itself waits 30 s for running requests.
STOP_SECONDS = 35


def arguments(
    repository: str,
    *,
    models: Sequence[str] | None = None,
    shared_memory_prefix: str | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """The arguments that decide which models tritonserver loads, and how.

    `repository` is a folder or the URL of an object store. `models` are loaded and no others; None loads all.
    `shared_memory_prefix` begins the names of the files that the python backend makes in /dev/shm, where a
    killed server leaves them. `extra` arguments come last.
    """
    prefix = []
    if shared_memory_prefix is not None:
        prefix = [f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}"]
    return [
        f"--model-repository={repository}",
        # A model that does not load must not stop the others: the service's health route names it and the
        # reason.
        "--exit-on-error=false",
        # Models are loaded by name, so that a changed or crashed one can be loaded again alone.
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in (("*",) if models is None else models)),
        *prefix,
        "--log-format=ISO8601",
        *extra,
    ]


@dataclass(frozen=True, slots=True)
class TritonPorts:
    """The three ports that a Triton listens on."""

    http: int
    grpc: int
    metrics: int


def embedded_arguments(*, backends: str, host: str, ports: TritonPorts) -> list[str]:
    """What an embedded Triton is started with beside `arguments`.

    `backends` is the folder of Triton's backends, `host` the address that it listens on.
    """
    return [
        # The wheel's server looks for its backends in another folder.
        f"--backend-directory={backends}",
        # A container has a network of its own; an embedded Triton has ports of this computer.
        f"--http-address={host}",
        f"--grpc-address={host}",
        f"--metrics-address={host}",
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        # In a container, Triton completes what a config.pbtxt leaves out. The wheel has no backend that could
        # do so but the python one, which starts each model's process once more for it: half as much again of
        # the time to start (15 s instead of 10 s for this project's models on two cores).
        "--disable-auto-complete-config",
    ]


def models_in_use(stack: Stack) -> tuple[str, ...] | None:
    """The models that the stack's services ask for: loading others would only take memory and time.

    None where that is not known: another image's service, or settings in the environment.
    """
    overridden = any(name.upper().startswith("AI__MODELS") for name in stack.service.env)
    if overridden or stack.service.image is not None:
        return None
    models = ModelsSettings.model_validate(stack.service.config.get("ai", {}).get("models", {}))
    in_use = {models.for_task(task).model_name for task in models.tasks}
    if models.asr.enabled and models.asr.decoder_path:
        in_use.add(models.asr.decoder_path)
    if models.emotion.enabled and models.emotion.text_model_name:
        in_use.add(models.emotion.text_model_name)
    return tuple(sorted(in_use))
