"""The Triton container of a node."""

import pulumi_docker as docker

from infra import names, runtime_health
from infra.program.containers import USER, gpu_requests, healthcheck
from infra.program.runtimes.base import Place
from infra.triton_arguments import container_command as command
from infra.triton_arguments import stop_seconds, trace_environment


def declare(place: Place) -> docker.Container:
    """Triton on the node's network as `triton`, with the node's GPUs and models."""
    stack, node, settings = place.stack, place.node, place.stack.triton
    engines = docker.ContainerMountArgs(
        type="volume", source=names.engines_volume(stack, node), target=names.ENGINES_MOUNT
    )
    credentials = {name: value.get_secret_value() for name, value in stack.models.credentials.items()}
    return place.prepared.container(
        names.TRITON,
        parent=place.parent,
        needs=[*place.needs, *place.prepared.engines],
        # The image's home folder may belong to root; models cache compiled code there.
        env={"HOME": "/tmp", **trace_environment(stack), **settings.env},
        secrets=credentials,
        memory=settings.memory,
        stop_seconds=stop_seconds(stack.service.shutdown_grace_seconds),
        healthcheck=healthcheck(
            runtime_health.triton(),
            start_seconds=names.ENGINE_SECONDS if place.prepared.models.building_engines else 120,
        ),
        command=command(stack, node),
        user=settings.user or USER,
        # With GPUs, the second one is the volume of engines.
        writable=["/tmp", *([] if place.prepared.engines else [names.ENGINES_MOUNT])]
        if settings.read_only
        else None,
        device_requests=gpu_requests(node.gpus),
        mounts=[
            docker.ContainerMountArgs(
                type="volume", source=names.shared_memory_volume(stack, node), target="/dev/shm"
            ),
            *([engines] if place.prepared.engines else []),
            *place.prepared.models.mounts(names.MODELS_MOUNT),
        ],
    )
