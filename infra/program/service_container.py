"""The container of a node's inference service."""

from collections.abc import Sequence

import pulumi_docker as docker

from infra import names
from infra.program.containers import USER, healthcheck
from infra.program.runtimes.base import Place
from infra.service_settings import service_secrets, settings_text

# The service's own grace, and then some for its processes to end.
_STOP_MARGIN_SECONDS = 10


def declare(place: Place, runtime: Sequence[docker.Container]) -> docker.Container:
    """The service on the node's network as `service`, in front of the containers of its runtime."""
    stack, node = place.stack, place.node
    shared_memory = docker.ContainerMountArgs(
        type="volume", source=names.shared_memory_volume(stack, node), target="/dev/shm"
    )
    given = {names.SETTINGS_VARIABLE: settings_text(stack, node)}
    uploads = None
    if not stack.service.read_only:
        # Docker puts a file only into a container whose root can be written.
        given = {names.SETTINGS_PATH_VARIABLE: names.SETTINGS_FILE}
        uploads = [docker.ContainerUploadArgs(file=names.SETTINGS_FILE, content=settings_text(stack, node))]
    authority = place.prepared.args.authority
    return place.prepared.container(
        names.SERVICE,
        parent=place.parent,
        needs=place.needs,
        env={**given, **stack.service.env},
        secrets={
            **service_secrets(stack, node),
            **place.prepared.args.secrets,
            **(authority.variables(node) if authority is not None else {}),
        },
        memory=stack.service.memory,
        stop_seconds=stack.service.shutdown_grace_seconds + _STOP_MARGIN_SECONDS,
        user=USER,
        # When the runtime changes, the service stops before it and finishes what it does, streams too.
        outlived_by=runtime[-1] if runtime else None,
        uploads=uploads,
        writable=["/tmp"] if stack.service.read_only else None,
        mounts=[shared_memory] if node.runtime == "triton" else None,
        healthcheck=healthcheck(["python3", "-m", "inference_service.healthcheck"], start_seconds=30),
    )
