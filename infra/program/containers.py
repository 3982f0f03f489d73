"""What every container of a fleet has in common: least privilege, bounded logs, restarts, an orderly end."""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
import pulumi_docker as docker

from infra import names
from infra.stack import Stack, memory_bytes

USER = "1000:1000"


def container(
    stack: Stack,
    name: str,
    role: str,
    *,
    image: str,
    network: str | None = None,
    alias: str = "",
    ports: Mapping[int, int] | None = None,
    env: Mapping[str, str] | None = None,
    secrets: Mapping[str, pulumi.Input[str]] | None = None,
    memory: str | None = None,
    stop_seconds: int = 10,
    capabilities: Sequence[str] = (),
    healthcheck: docker.ContainerHealthcheckArgs | None = None,
    bind: str | None = None,
    labels: Mapping[str, pulumi.Input[str]] | None = None,
    writable: Sequence[str] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """The arguments of a `docker.Container`, on a network of Docker or, without one, on that of the host.

    `ports` are container port -> host port. `secrets` are environment variables too, encrypted in the state.
    `labels` are added to those that name stack and role. `capabilities` are those that the container keeps.
    `stop_seconds` pass between SIGTERM and SIGKILL. With `writable`, the container's root is read-only and
    these folders are in memory, which counts against its limit.
    """
    variables: dict[str, pulumi.Input[str]] = {**(env or {}), **(secrets or {})}
    envs: Any = [
        f"{key}={value}" if isinstance(value, str) else pulumi.Output.concat(key, "=", value)
        for key, value in sorted(variables.items())
    ]
    marks = {names.STACK_LABEL: stack.name, names.ROLE_LABEL: role, **(labels or {})}
    return {
        "name": name,
        "image": image,
        "envs": pulumi.Output.secret(envs) if secrets else envs,
        **(
            {"network_mode": "host"}
            if network is None
            else {"networks_advanced": [docker.ContainerNetworksAdvancedArgs(name=network, aliases=[alias])]}
        ),
        "ports": [
            docker.ContainerPortArgs(internal=inner, external=outer, ip=bind or "0.0.0.0", protocol="tcp")
            for inner, outer in sorted((ports or {}).items())
        ],
        "labels": [
            docker.ContainerLabelArgs(label=label, value=value) for label, value in sorted(marks.items())
        ],
        "capabilities": docker.ContainerCapabilitiesArgs(
            drops=["ALL"], adds=[f"CAP_{name}" for name in sorted(capabilities)] or None
        ),
        "read_only": writable is not None,
        # Docker's default forbids code there; models compile some into it.
        "tmpfs": dict.fromkeys(writable, "exec,nosuid,nodev,mode=1777") if writable else None,
        "security_opts": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "init": True,
        "log_driver": "json-file",
        "log_opts": {"max-size": "10m", "max-file": "3"},
        "memory": memory_bytes(memory) >> 20 if memory else None,
        # Docker sets twice the memory by itself; the provider would take that for a change at every update.
        "memory_swap": 2 * (memory_bytes(memory) >> 20) if memory else None,
        "stop_timeout": stop_seconds,
        "destroy_grace_seconds": stop_seconds,
        "healthcheck": healthcheck,
        **arguments,
    }


def healthcheck(command: Sequence[str], start_seconds: int) -> docker.ContainerHealthcheckArgs:
    """A health check by a command in the container; failures count after `start_seconds`."""
    # Docker writes durations its own way; another way of writing the same one would be a change at every
    # update.
    minutes, seconds = divmod(start_seconds, 60)
    start_period = f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
    return docker.ContainerHealthcheckArgs(
        tests=["CMD", *command], interval="10s", timeout="5s", retries=3, start_period=start_period
    )


def gpu_requests(gpus: str | list[int]) -> list[docker.ContainerDeviceRequestArgs] | None:
    """The device requests for `all`, for GPUs by index, or for `none`."""
    if gpus == "none":
        return None
    if gpus == "all":
        return [docker.ContainerDeviceRequestArgs(driver="nvidia", count=-1, capabilities=["gpu"])]
    indices = [str(index) for index in gpus]
    return [docker.ContainerDeviceRequestArgs(driver="nvidia", device_ids=indices, capabilities=["gpu"])]
