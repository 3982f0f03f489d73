"""A Docker host under examination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra import connection, names
from infra.doctor.containers import Container
from infra.doctor.host_access import HostAccess
from infra.stack import Node, SshHost, Stack
from infra.update import preflight


@dataclass(eq=False)
class HostSite:
    """A host under examination: access to it, and what its first checks found out for the later ones."""

    access: HostAccess
    requirements: preflight.HostCheck
    stack: Stack
    #: The stack's nodes on this host.
    nodes: Sequence[Node]
    #: All hosts that are reached through SSH, this one among them.
    fleet: Sequence[HostSite]
    #: Seconds by which the host's clock is ahead of this computer's.
    clock: float | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    docker_root: str = "/var/lib/docker"

    def __post_init__(self) -> None:
        self.where = self.requirements.users
        self.ports = self.requirements.ports
        #: Docker's filter for the stack's containers.
        self.label = f"label={names.STACK_LABEL}={self.stack.name}"

    def typed(self, command: str) -> str:
        """What a person types to run a command on the host, with the stack's SSH settings."""
        return connection.typed(self.access.host, self.stack.ssh, command)

    @property
    def ssh_command(self) -> str | None:
        """What a person types to log in; None for a host that is this computer."""
        host = self.access.host
        if not isinstance(host, SshHost):
            return None
        return f"ssh {f'-p {host.port} ' if host.port else ''}{host.destination}"
