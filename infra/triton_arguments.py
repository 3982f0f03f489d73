"""The arguments of tritonserver, in a container and embedded: one list, so that both treat models alike."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from inference_service import settings
from inference_service.settings import TRACES_PATH
from infra.names import LOOPBACK, MODELS_MOUNT
from infra.service_settings import merged, switched_off, traced_as
from infra.stack import Node, Stack

#: How the service's environment variables for its models begin.
_MODELS = "AI__MODELS"
#: How the names of the python backend's files in /dev/shm begin.
_SHARED_MEMORY_PREFIX = "triton-"
#: Seconds that Triton gets to end after it has finished running requests.
_END_SECONDS = 5


def stop_seconds(grace: int) -> int:
    """Seconds between SIGTERM and SIGKILL for a Triton whose service has `grace` seconds to stop."""
    return grace + _END_SECONDS


def arguments(
    repository: str,
    *,
    grace: int,
    models: Sequence[str] | None = None,
    shared_memory_prefix: str | None = None,
    extra: Sequence[str] = (),
) -> list[str]:
    """The arguments that decide which models tritonserver loads, and how.

    Running requests have `grace` seconds to finish when Triton stops. `repository` is a folder or the URL of
    an object store. `models` are loaded and no others; None loads all. The names of the python backend's
    files in /dev/shm begin with `shared_memory_prefix`. `extra` arguments come last.
    """
    prefix = f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}"
    return [
        f"--model-repository={repository}",
        # A model that does not load must not stop the others: the service's health route names it and the
        # reason.
        "--exit-on-error=false",
        # Models are loaded by name, so that a changed or crashed one can be loaded again alone.
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in (("*",) if models is None else models)),
        *([prefix] if shared_memory_prefix else []),
        "--log-format=ISO8601",
        f"--exit-timeout-secs={grace}",
        *extra,
    ]


def container_command(stack: Stack, node: Node, *further: str, models: str = MODELS_MOUNT) -> list[str]:
    """The command of Triton's container: tritonserver and its arguments, after what /dev/shm needs before it.

    `further` arguments come before the stack's own. `models` is the folder with the models.
    """
    server = arguments(
        stack.models.source if stack.models.object_store else models,
        grace=stack.service.shutdown_grace_seconds,
        models=models_in_use(stack, node),
        shared_memory_prefix=_SHARED_MEMORY_PREFIX,
        extra=[*further, *trace_arguments(stack, node), *stack.triton.extra_args],
    )
    # The volume behind /dev/shm outlives the container: what a killed Triton left in it would add up. And
    # while it is empty, Docker copies the folder of the next container's image onto it, with a mode that
    # shuts Triton out, also while it runs. One file keeps it from that; the option for it needs Docker 26.
    script = f': >/dev/shm/.shared; rm -f /dev/shm/{_SHARED_MEMORY_PREFIX}*; exec "$@"'
    return ["sh", "-c", script, "sh", "tritonserver", *server]


def on_loopback() -> list[str]:
    """The arguments of a Triton that only its own pod or computer reaches."""
    return [f"--{each}-address={LOOPBACK}" for each in ("http", "grpc", "metrics")]


def trace_arguments(stack: Stack, node: Node) -> list[str]:
    """The arguments that have Triton trace the inferences of traced requests; none where nothing is traced.

    A request that brings a trace's context is traced whatever the rate, so the rate 0 leaves out the others.
    Triton exports by OTLP over HTTP alone, and only times: its spans have no tensors.
    """
    if stack.traces.endpoint is None:
        return []
    resource = {"service.name": "triton", **traced_as(stack, node)}
    return [
        "--trace-config=mode=opentelemetry",
        "--trace-config=level=TIMESTAMPS",
        "--trace-config=rate=0",
        f"--trace-config=opentelemetry,url={stack.traces.endpoint}{TRACES_PATH}",
        *(f"--trace-config=opentelemetry,resource={name}={value}" for name, value in resource.items()),
    ]


def trace_environment(stack: Stack) -> dict[str, str]:
    """The variables that go with `trace_arguments`.

    Triton waits at its end for one delivery. With OpenTelemetry's own ten seconds for it, Triton ended 15
    seconds after its signal where the collector hung; with two, 3 seconds after.
    """
    return {} if stack.traces.endpoint is None else {"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "2s"}


@dataclass(frozen=True, slots=True)
class TritonPorts:
    """The three ports that a Triton listens on."""

    http: int
    grpc: int
    metrics: int


def embedded_arguments(backends: str, ports: TritonPorts, *, completes: bool) -> list[str]:
    """The arguments of an embedded Triton beside `arguments`; `backends` is the folder of its backends.

    If it `completes` configurations, it serves models whose config.pbtxt is missing or lacks tensors.
    """
    return [
        # The wheel's server looks for its backends in another folder.
        f"--backend-directory={backends}",
        # A container has a network of its own; an embedded Triton has ports of this computer.
        *on_loopback(),
        f"--http-port={ports.http}",
        f"--grpc-port={ports.grpc}",
        f"--metrics-port={ports.metrics}",
        # In a container, Triton completes an incomplete config.pbtxt. The python backend starts each model's
        # process once more for it: Triton would start in 15 s instead of 10 s (this project's models, two
        # cores).
        *([] if completes else ["--disable-auto-complete-config"]),
    ]


def models_in_use(stack: Stack, node: Node | None = None) -> tuple[str, ...] | None:
    """The models that the node's service uses, or all services of the stack; Triton loads no others.

    None if they are not known: the service has another image, whose settings may differ.
    """
    if stack.service.image is not None:
        return None
    # The environment overrides the settings; the limits of the server play no part here.
    variables = {name: value for name, value in stack.service.env.items() if name.upper().startswith(_MODELS)}
    given = copy.deepcopy({"ai": {"models": stack.service.config.get("ai", {}).get("models", {})}})
    in_use: set[str | None] = set()
    for each in [node] if node is not None else stack.nodes:
        config = merged(given, {"ai": {"models": switched_off(each)}})
        in_use |= _in_use(settings.check(config, variables)[0].ai.models)
    return tuple(sorted(filter(None, in_use)))


def _in_use(models: settings.ModelsSettings) -> set[str | None]:
    in_use = {models.name_of(role) for role in models.roles}
    in_use |= {name for task in models.tasks for name in models.for_task(task).requires}
    if models.asr.enabled:
        in_use.add(models.asr.decoder_path)
    return in_use
