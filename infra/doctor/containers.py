"""Containers from the output of `docker inspect`, reduced to what the checks use."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Container:
    """One container. `ports`: host port -> container port; `gpus`: indices, `all` or `none`.

    `health_check` is the command of its health check, empty without one.
    """

    name: str
    image: str
    status: str
    exit_code: int
    out_of_memory: bool
    error: str
    restarts: int
    started_at: str
    health: str
    health_output: str
    health_check: tuple[str, ...]
    address: str
    environment: dict[str, str]
    mounts: dict[str, str]
    ports: dict[int, int]
    gpus: str | tuple[str, ...]

    @property
    def running(self) -> bool:
        """Whether the container runs."""
        return self.status == "running"

    @property
    def ended(self) -> str:
        """How the last run ended."""
        reason = f"exit code {self.exit_code}"
        if self.out_of_memory:
            reason += ", killed by the kernel: out of memory"
        elif self.exit_code == 137:
            reason += ", killed (SIGKILL)"
        return f"{reason}: {self.error}" if self.error else reason


def parse(text: str) -> dict[str, Container]:
    """The containers in the output of `docker inspect`, by name. Raises ValueError for other output."""
    return {container.name: container for container in map(_container, json.loads(text or "[]"))}


def _container(described: dict[str, Any]) -> Container:
    state, config, host = described["State"], described["Config"], described["HostConfig"]
    health = state.get("Health") or {}
    log = health.get("Log") or []
    networks = described["NetworkSettings"]["Networks"] or {}
    return Container(
        name=described["Name"].removeprefix("/"),
        image=config["Image"],
        status=state["Status"],
        exit_code=state["ExitCode"],
        out_of_memory=bool(state.get("OOMKilled")),
        error=state.get("Error", ""),
        restarts=described.get("RestartCount", 0),
        started_at=state.get("StartedAt", ""),
        health=health.get("Status", ""),
        health_output=log[-1]["Output"].strip() if log else "",
        health_check=_command((config.get("Healthcheck") or {}).get("Test") or []),
        address=next((net["IPAddress"] for net in networks.values() if net.get("IPAddress")), ""),
        environment=dict(entry.split("=", 1) for entry in config.get("Env") or [] if "=" in entry),
        mounts={mount["Destination"]: mount.get("Source", "") for mount in described.get("Mounts") or []},
        ports={
            int(binding["HostPort"]): int(inner.split("/")[0])
            for inner, bindings in (host.get("PortBindings") or {}).items()
            for binding in bindings or []
            if binding.get("HostPort")
        },
        gpus=_gpus(host.get("DeviceRequests") or []),
    )


def _command(test: list[str]) -> tuple[str, ...]:
    """The command of a health check as Docker writes it: `CMD` and a command, or `CMD-SHELL` and a script."""
    kind, *rest = test or ["NONE"]
    return {"CMD": tuple(rest), "CMD-SHELL": ("sh", "-c", *rest)}.get(kind, ())


def _gpus(requests: list[dict[str, Any]]) -> str | tuple[str, ...]:
    for request in requests:
        if any("gpu" in group for group in request.get("Capabilities") or []):
            return tuple(request["DeviceIDs"]) if request.get("DeviceIDs") else "all"
    return "none"
