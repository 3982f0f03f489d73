"""Which hosts have exporters, and where Prometheus reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from infra import names
from infra.stack import EmbeddedHost, Host, Monitoring, Stack, UnixHost
from infra.stack.hosts import bracketed, machine_of
from infra.stack.tls import is_public

#: Why a host is left out, and the way to have it.
NOT_PRIVATE = (
    "Prometheus reaches it at a public address, where everybody would read the exporter; "
    "monitoring.exporters.hosts: true opens it all the same"
)

Wanted = Literal["auto", "existing"] | bool


@dataclass(frozen=True)
class Exporter:
    """One exporter: its host and the port.

    `address` is that at which it is open and at which Prometheus reads it; None where it has no port of the
    host and is on the network of monitoring by the name `part`. `existing`: the stack does not start it.
    """

    part: str
    host: Host
    machine: str
    address: str | None
    port: int
    existing: bool = False

    @property
    def target(self) -> str:
        """The target of Prometheus."""
        return f"{bracketed(self.address or self.part)}:{self.port}"


@dataclass(frozen=True)
class _Machine:
    host: Host
    address: str
    gpus: bool


def exporters(stack: Stack) -> list[Exporter]:
    """All exporters of the stack, hosts first, in the order of the stack file."""
    return [each for each in _decided(stack) if isinstance(each, Exporter)]


def left_out(stack: Stack) -> list[str]:
    """The machines that have no exporter because Prometheus reaches them at a public address only."""
    return list(dict.fromkeys(each for each in _decided(stack) if isinstance(each, str)))


def _decided(stack: Stack) -> Iterator[Exporter | str]:
    monitoring = stack.monitoring
    if monitoring is None or stack.monitoring_host is None:
        return
    machines = _machines(stack)
    given = monitoring.exporters
    for machine in machines:
        yield from _one(stack, monitoring, machine, names.HOST_EXPORTER, given.host_port, given.hosts)
    for machine in machines:
        if machine.gpus:
            yield from _one(stack, monitoring, machine, names.GPU_EXPORTER, given.gpu_port, given.gpus)


def _one(
    stack: Stack, monitoring: Monitoring, machine: _Machine, part: str, port: int, wanted: Wanted
) -> Iterator[Exporter | str]:
    name = machine_of(machine.host)
    own = stack.monitoring_host
    assert own is not None
    beside = name == machine_of(own)
    local = isinstance(machine.host, UnixHost)
    if wanted is False or (local and not beside):
        return
    if wanted == "existing":
        if not local:
            yield Exporter(part, machine.host, name, machine.address, port, existing=True)
        return
    if beside and (local or (wanted == "auto" and is_public(machine.address))):
        # Prometheus reads it on the network that both are on, so no port of the host is open.
        yield Exporter(part, machine.host, name, None, port)
    elif wanted == "auto" and is_public(machine.address):
        yield name
    else:
        yield Exporter(part, machine.host, name, machine.address, port)


def _machines(stack: Stack) -> list[_Machine]:
    """Each Docker host once, at the address that the gateway dials if a node is there."""
    found: dict[str, _Machine] = {}
    for node in stack.nodes:
        if isinstance(node.host, EmbeddedHost):
            continue
        bound = node.bind if node.bind not in (None, "0.0.0.0", "::") else None
        known = found.get(machine_of(node.host))
        gpus = node.wants_gpus or (known is not None and known.gpus)
        found[machine_of(node.host)] = _Machine(node.host, bound or node.public_host, gpus)
    others = [gateway.host for gateway in stack.gateway.each]
    for host in [*others, stack.monitoring_host]:
        if host is not None and not isinstance(host, EmbeddedHost):
            found.setdefault(machine_of(host), _Machine(host, host.address, False))
    return list(found.values())
