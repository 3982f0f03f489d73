"""The ports that a stack publishes on a host, and the containers and processes that hold them there."""

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from infra import names
from infra.monitoring.parts import parts
from infra.stack import Host, Stack
from infra.update import listing
from infra.update.listing import Listed, specific

#: Prints the input of `taken` on a host with Docker: its published ports, its listeners and their processes.
#: The listeners are the kernel's table and not the output of `ss`, which small hosts such as Alpine's lack;
#: it adds the processes' names where it is installed.
SCRIPT = (
    f"{listing.SCRIPT}; echo --; "
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; echo --; ss -Hltnp 2>/dev/null; echo --"
)
_LISTEN = "0A"  # TCP_LISTEN in the kernel's table


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container of the stack publishes on a host. `key` is its key in the stack file.

    `address` is the IP address of the host, empty for all of them. `node` is empty for the gateway.
    """

    key: str
    number: int
    container: str
    address: str = ""
    node: str = ""

    def conflicts(self, address: str, number: int) -> bool:
        """Whether a listener prevents the port; an empty address is all of them."""
        return number == self.number and (not address or not self.address or address == self.address)

    def held_by(self, container: Listed) -> bool:
        """Whether a container holds the port."""
        return any(self.conflicts(address, number) for address, number in container.published)


@dataclass(frozen=True, slots=True)
class Taken:
    """Why a port is not free for the stack, and the remedy."""

    reason: str
    remedy: str


def published(stack: Stack, host: Host) -> Iterator[Port]:
    """The ports that the stack's containers publish on a host."""
    for number, node in enumerate(stack.nodes):
        if node.host != host:
            continue
        for port in names.published_ports(stack, node):
            key = f"nodes[{number}].ports.{port.key}"
            yield Port(key, port.outer, names.container(stack, node, port.part), node.bind or "", node.name)
    gateway = stack.gateway
    if gateway.mode == "container" and host in (each.host for each in gateway.each):
        container = names.gateway_container(stack)
        yield Port("gateway.http", gateway.http, container, gateway.bind or "")
        yield Port("gateway.grpc", gateway.grpc, container, gateway.bind or "")
    if host == stack.monitoring_host:
        for part in parts(stack):
            key = f"monitoring.{part.name}.port"
            yield Port(key, part.port, names.monitoring_container(stack, part.name), part.bind)


def containers(output: str) -> list[Listed]:
    """The containers in the output of `SCRIPT`, the oldest first."""
    return listing.listed(output.split("--\n")[0])


def taken(
    ports: Sequence[Port],
    output: str,
    stack: str,
    others: Collection[str] = (),
    *,
    take_over: bool = False,
) -> list[Taken]:
    """The ports that are neither free nor held by their own container, and do not become free in an update.

    `output` is that of `SCRIPT`. Ports held by the containers `others` count as free. A node's turn frees its
    ports from other nodes of the `stack`, and with `take_over` from the original service.
    """
    _, tables, sockets = (*output.split("--\n"), "", "", "")[:3]
    publishers = containers(output)
    listeners = list(_listeners(tables))
    result = []
    for port in ports:
        holders = [container for container in publishers if port.held_by(container)]
        foreign = [each for each in holders if each.name != port.container and each.name not in others]
        unfreed = [each for each in foreign if not _freed(port, each, stack, take_over)]
        if unfreed:
            result.append(_held(port, unfreed[0], stack))
        elif not holders and any(port.conflicts(*listener) for listener in listeners):
            holder = _process(sockets, port.number) or "a process that this user may not see"
            end = f"find it with: ss -ltnp 'sport = :{port.number}'"
            result.append(_taken(port, holder, f"end that ({end}), or set {port.key} to another port"))
    return result


def _freed(port: Port, holder: Listed, stack: str, take_over: bool) -> bool:
    """Whether the turn of the port's node frees it."""
    if not port.node:
        return False
    return (holder.stack == stack and bool(holder.node)) or (take_over and holder.original is not None)


def _held(port: Port, holder: Listed, stack: str) -> Taken:
    container, other = f"the container {holder.name}", f"set {port.key} to another port"
    if holder.original is not None and port.node:
        return _taken(
            port,
            f"{container} of the original service",
            f"gpu-inference:rollout.takeOver: true stops the original service in the node's turn; or {other}",
        )
    if holder.stack == stack:
        return _taken(
            port,
            f"{container} of this stack, which stays until the end of the update",
            f"{other}; the next update may set it back",
        )
    if holder.stack:
        return _taken(port, f"{container} of the stack {holder.stack}", other)
    return _taken(port, container, f"end that (docker stop {holder.name}), or {other}")


def _taken(port: Port, holder: str, remedy: str) -> Taken:
    return Taken(f"{port.key}: port {port.number} is taken by {holder}", remedy)


def _listeners(tables: str) -> Iterator[tuple[str, int]]:
    """Address and port of each listener, from /proc/net/tcp and tcp6."""
    for row in map(str.split, tables.splitlines()):
        if len(row) > 3 and row[3] == _LISTEN:
            address, _, number = row[1].partition(":")
            # The kernel prints words of four bytes, each with the first byte last.
            words = (bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
            yield specific(str(ipaddress.ip_address(b"".join(words)))), int(number, 16)


def _process(sockets: str, port: int) -> str | None:
    """The process that listens on a port, from `ss -ltnp`."""
    for line in sockets.splitlines():
        if re.search(rf":{port}\s", line) and (match := re.search(r'\("([^"]+)",pid=(\d+)', line)):
            return f"{match[1]} (pid {match[2]})"
    return None
