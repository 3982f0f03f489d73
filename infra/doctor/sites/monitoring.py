"""What watches a fleet, on one host, under examination."""

from collections.abc import Iterator
from dataclasses import dataclass

from infra import names
from infra.doctor.sites.host import HostSite
from infra.monitoring.exporters import exporters
from infra.monitoring.parts import parts
from infra.stack import Host, Stack
from infra.stack.hosts import machine_of


@dataclass(eq=False)
class MonitoringSite:
    """The containers of monitoring on a host."""

    stack: Stack
    host: HostSite

    def __post_init__(self) -> None:
        address = self.host.access.host
        #: Whether Prometheus is here, and the others that have configurations.
        self.has_files = address == self.stack.monitoring_host
        self.where = (names.MONITORING if self.has_files else f"{names.MONITORING}@{machine_of(address)}",)


def containers(stack: Stack) -> Iterator[tuple[Host, list[str]]]:
    """The hosts with containers of monitoring, that of Prometheus first, and which parts each has."""
    found: dict[Host, list[str]] = {}
    if stack.monitoring_host is not None:
        found[stack.monitoring_host] = [part.name for part in parts(stack)]
    for each in exporters(stack):
        if not each.existing:
            found.setdefault(each.host, []).append(each.part)
    yield from found.items()
