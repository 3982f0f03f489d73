"""A Docker host under examination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra import names
from infra.doctor.containers import Container
from infra.doctor.host_access import HostAccess
from infra.stack import Node, SshHost, Stack
from infra.update import ports, preflight


@dataclass
class ExaminedHost:
    """A host under examination: access to it, and what its first checks found out for the later ones."""

    access: HostAccess
    requirements: preflight.HostCheck
    stack: Stack
    #: The stack's nodes on this host.
    nodes: Sequence[Node]
    #: All hosts that are reached through SSH, this one among them.
    fleet: Sequence[ExaminedHost]
    #: Seconds by which the host's clock is ahead of this computer's.
    clock: float | None = None
    containers: dict[str, Container] = field(default_factory=dict)
    docker_root: str = "/var/lib/docker"

    @property
    def where(self) -> tuple[str, ...]:
        """The nodes on this host, and the gateway if it is."""
        return self.requirements.users

    @property
    def ports(self) -> Sequence[ports.Port]:
        """The ports that the stack publishes on this host."""
        return self.requirements.ports

    @property
    def label(self) -> str:
        """Docker's filter for the stack's containers."""
        return f"label={names.STACK_LABEL}={self.stack.name}"

    def remote(self) -> bool:
        """Whether the host is reached through SSH."""
        return isinstance(self.access.host, SshHost)

    def ssh_command(self) -> str:
        """The command that a person would type."""
        host = self.access.host
        assert isinstance(host, SshHost)
        return f"ssh {f'-p {host.port} ' if host.port else ''}{host.destination}"
