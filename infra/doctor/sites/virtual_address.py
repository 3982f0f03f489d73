"""The virtual address of several gateways under examination."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra import names
from infra.doctor.runner import Check
from infra.doctor.sites.host import HostSite
from infra.doctor.web import HttpServer
from infra.stack import Stack


@dataclass(eq=False)
class VirtualAddressSite:
    """The address, and the hosts of the gateways with the checks that connect to them, by gateway."""

    stack: Stack
    hosts: Sequence[tuple[str, HostSite, Check]]
    where: tuple[str, ...] = (names.GATEWAY,)
    #: The gateways that have the address, as the first check found.
    holders: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        gateway = self.stack.gateway
        assert gateway.virtual_address is not None
        self.ip = gateway.virtual_address.ip
        self.server = HttpServer(self.ip, gateway.http, tls=gateway.tls is not None)
        self.peers = " and ".join(gateway.own_addresses)

    @property
    def logs(self) -> str:
        """The commands that show keepalived's log on each host."""
        command = f"docker logs --tail 50 {names.keepalived_container(self.stack)}"
        return "; ".join(host.typed(command) for _, host, _ in self.hosts)
