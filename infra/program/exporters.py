"""An exporter on a host: the figures of the host itself, or of its GPUs."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.monitoring.exporters import Exporter
from infra.program.command import step
from infra.program.containers import container, gpu_requests
from infra.program.host import Host
from infra.stack import Stack
from infra.stack.hosts import bracketed
from infra.steps import monitoring as steps

_READY_SECONDS = 30
_PIDS = 256
#: It reads files that everybody may read.
_NOBODY = "65534:65534"
#: Where the exporter sees the host's files.
_ROOT = "/host"


def exporter(
    each: Exporter, stack: Stack, host: Host, *, parent: pulumi.Resource, needs: Sequence[pulumi.Resource]
) -> None:
    """Declares an exporter, open at the address at which Prometheus reads it and at no other."""
    assert stack.monitoring is not None
    given = stack.monitoring.exporters
    is_host = each.part == names.HOST_EXPORTER
    image = given.host_image if is_host else given.gpu_image
    pulled = host.declare_image(docker.RemoteImage, f"{each.part}-image", None, name=image, keep_locally=True)
    name = names.monitoring_container(stack, each.part)
    listens = f"{bracketed(each.address) if each.address else ''}:{each.port}"
    # On the host's own network it sees the host's network interfaces, and is open at that address alone.
    network = names.monitoring_container(stack, names.MONITORING) if each.address is None else None
    arguments = container(
        stack,
        name,
        each.part,
        image=image,
        network=network,
        alias=each.part,
        writable=["/tmp"],
        **(_host(listens) if is_host else _gpus(listens)),
    )
    made = host.declare(
        docker.Container,
        each.part,
        parent=parent,
        needs=[pulled, *needs],
        delete_before_replace=True,
        before_0_1=False,
        **arguments,
    )
    host.declare(
        command.local.Command,
        f"{each.part}-ready",
        parent=parent,
        needs=[made],
        before_0_1=False,
        **step(
            "infra.steps.monitoring",
            "wait",
            steps.Ready(
                connection=host.connection, container=name, ask=(), timeout=_READY_SECONDS, pids=_PIDS
            ),
            triggers=[made.id],
        ),
    )


def _host(listens: str) -> dict[str, Any]:
    return {
        "command": [f"--path.rootfs={_ROOT}", f"--web.listen-address={listens}"],
        "user": _NOBODY,
        "memory": "128m",
        "pid_mode": "host",
        "mounts": [
            docker.ContainerMountArgs(
                type="bind",
                source="/",
                target=_ROOT,
                read_only=True,
                # Disks that are mounted later are seen too.
                bind_options=docker.ContainerMountBindOptionsArgs(propagation="rslave"),
            )
        ],
    }


def _gpus(listens: str) -> dict[str, Any]:
    return {
        "env": {"DCGM_EXPORTER_LISTEN": listens},
        "memory": "1g",
        "device_requests": gpu_requests("all"),
    }
