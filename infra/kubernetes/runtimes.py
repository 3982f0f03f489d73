"""The containers of a pod that run its models: Triton, or Edge-LLM's two.

Each is a sidecar: an init container that goes on. So it is ready before the service starts, and it stops
after the service has finished what was running. (Kubernetes has sidecars since 1.29.)
"""

from collections.abc import Sequence

from infra import names, runtime_health
from infra.kubernetes import models, pods
from infra.kubernetes.labels import Manifest
from infra.kubernetes.pods import mount
from infra.stack import EdgeLlmPart, Stack
from infra.stack.pools import Pool
from infra.triton_arguments import container_command, on_loopback, trace_environment

SHM, TMP, ENGINES = "shm", "runtime-tmp", "engines"
_DEFAULT_CPU, _DEFAULT_MEMORY = "2", "4g"
_STARTS_EVERY = 5


def containers(stack: Stack, pool: Pool, images: dict[str, str], secret: str) -> list[Manifest]:
    """A pool's sidecars, in the order in which they start; the Secret `secret` has their secret variables."""
    if pool.runtime == "triton":
        return [_triton(stack, pool, images[names.TRITON], secret)]
    if pool.runtime == "edge-llm":
        return [
            _edge(stack, pool, names.UNIT_MANAGER, stack.edge_llm.unit_manager, images, 0),
            _edge(stack, pool, names.LLM_NODE, stack.edge_llm.llm_node, images, pool.gpus),
        ]
    return []


def volumes(stack: Stack, pool: Pool) -> list[Manifest]:
    """The volumes of the sidecars."""
    if pool.runtime == "triton":
        return [
            pods.empty(SHM, "Memory", stack.triton.shm_size),
            pods.empty(TMP),
            pods.empty(ENGINES),
            *models.volumes(stack),
        ]
    if pool.runtime == "edge-llm":
        return [pods.empty(TMP), *models.volumes(stack)]
    return []


def start_seconds(stack: Stack) -> int:
    """How long a runtime may take until it answers for the first time."""
    engines = names.ENGINE_SECONDS if models.builds_engines(stack) else 0
    return stack.rollout.ready_timeout_seconds + engines


def user(stack: Stack, pool: Pool) -> str | None:
    """The user of the pods' volumes and of their processes; None where an image's own user counts."""
    if pool.runtime != "edge-llm":
        return stack.triton.user or pods.USER if pool.runtime == "triton" else pods.USER
    parts = {stack.edge_llm.unit_manager.user, stack.edge_llm.llm_node.user}
    return parts.pop() if len(parts) == 1 else None


def _triton(stack: Stack, pool: Pool, image: str, secret: str) -> Manifest:
    settings = stack.triton
    return {
        "name": names.TRITON,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "command": container_command(
            stack, stack.node(pool.name), *on_loopback(), models=models.repository(stack)
        ),
        # The image's home folder may belong to root; models cache compiled code there. NVIDIA's images ask
        # for every GPU of the machine.
        "env": pods.variables(
            {
                "HOME": "/tmp",
                **({} if pool.gpus else {"NVIDIA_VISIBLE_DEVICES": "void"}),
                **trace_environment(stack),
                **settings.env,
            },
            secret,
            sorted(models.credentials(stack)),
        ),
        "resources": _resources(stack, pool, settings.memory, pool.gpus),
        "securityContext": pods.container_security(settings.read_only),
        "volumeMounts": [
            mount(SHM, "/dev/shm"),
            mount(TMP, "/tmp"),
            mount(ENGINES, names.ENGINES_MOUNT),
            *models.mounts(stack, names.MODELS_MOUNT),
        ],
        # Triton listens in its pod only, where the kubelet cannot ask.
        **_probes(stack, runtime_health.triton("--max-time", "4")),
    }


def _edge(
    stack: Stack, pool: Pool, name: str, part: EdgeLlmPart, images: dict[str, str], gpus: int
) -> Manifest:
    manager = name == names.UNIT_MANAGER
    made: Manifest = {
        "name": name,
        "image": images[name],
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": pods.variables(part.env),
        "resources": _resources(stack, pool, part.memory, gpus),
        "securityContext": pods.container_security(part.read_only, part.user),
        "volumeMounts": [
            mount(TMP, "/tmp"),
            *([] if manager else models.mounts(stack, stack.edge_llm.model_path)),
        ],
        **_probes(stack, runtime_health.UNIT_MANAGER if manager else runtime_health.LLM_NODE),
    }
    if part.command:
        made["args"] = part.command
    return made


def _probes(stack: Stack, command: Sequence[str]) -> Manifest:
    return {
        "startupProbe": pods.command_probe(
            command,
            periodSeconds=_STARTS_EVERY,
            timeoutSeconds=5,
            failureThreshold=max(1, start_seconds(stack) // _STARTS_EVERY),
        ),
        "livenessProbe": pods.command_probe(command, periodSeconds=10, timeoutSeconds=5, failureThreshold=3),
    }


def _resources(stack: Stack, pool: Pool, limit: str | None, gpus: int) -> Manifest:
    asked = pool.resources.runtime
    return pods.resources(
        limit,
        asked.cpu or _DEFAULT_CPU,
        asked.memory,
        _DEFAULT_MEMORY,
        {stack.kubernetes.gpu_resource: gpus},
    )
