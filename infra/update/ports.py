"""The ports that a stack publishes on a host, and who holds them there."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from infra import names
from infra.stack import Host, Stack

#: Prints what `taken` reads, on a host with Docker.
ASK = (
    "docker ps --no-trunc --format '{{.Names}}\t{{.Ports}}'; echo --; "
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; echo --; ss -Hltnp 2>/dev/null; echo --"
)


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a part of the stack publishes on a host: its key in the stack file, and the container.

    `address` is the IP address that it listens on, empty for all of them.
    """

    key: str
    number: int
    container: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """A port that something else listens on, and what to do."""

    reason: str
    remedy: str


def of(stack: Stack, host: Host) -> tuple[Port, ...]:
    """The ports that the stack's containers publish on a host."""
    return tuple(_of(stack, host))


def _of(stack: Stack, host: Host) -> Iterator[Port]:
    for number, node in enumerate(stack.nodes):
        if node.host != host:
            continue
        for port in names.published_ports(stack, node):
            key = f"nodes[{number}].ports.{port.key}"
            yield Port(key, port.outer, names.container(stack, node, port.part))
    gateway = stack.gateway
    if gateway.mode == "container" and gateway.host == host:
        container = names.gateway_container(stack)
        yield Port("gateway.http", gateway.http, container, gateway.bind or "")
        yield Port("gateway.grpc", gateway.grpc, container, gateway.bind or "")


def taken(ports: Sequence[Port], said: str, others: Collection[str] = ()) -> list[Taken]:
    """The ports that are neither free nor held by their own container.

    `said` is what `ASK` printed. Ports held by the containers `others` count as free.
    """
    published, listening, sockets = (*said.split("--\n"), "", "", "")[:3]
    holders = list(_published(published))
    listeners = list(_listening(listening))
    found = []
    for port in ports:
        containers = [name for address, number, name in holders if _same(port, address, number)]
        if foreign := [name for name in containers if name != port.container and name not in others]:
            holder, end = f"the container {foreign[0]}", f"docker stop {foreign[0]}"
        elif not containers and any(_same(port, address, number) for address, number in listeners):
            holder = _process(sockets, port.number) or "a process that this user may not see"
            end = f"find it with: ss -ltnp 'sport = :{port.number}'"
        else:
            continue
        found.append(
            Taken(
                f"{port.key}: port {port.number} is taken by {holder}",
                f"end that ({end}), or set {port.key} to another port",
            )
        )
    return found


def _same(port: Port, address: str, number: int) -> bool:
    """Whether one listener keeps the other from listening; an empty address is all of them."""
    return number == port.number and (not address or not port.address or address == port.address)


def _published(listed: str) -> Iterator[tuple[str, int, str]]:
    """Address, port and container, from `docker ps`."""
    for line in listed.splitlines():
        name, _, ports = line.partition("\t")
        for address, first, last in re.findall(r"(\S*):(\d+)(?:-(\d+))?->\d+(?:-\d+)?/tcp", ports):
            for number in range(int(first), int(last or first) + 1):
                yield _specific(address.strip("[]")), number, name


def _listening(tables: str) -> Iterator[tuple[str, int]]:
    """Addresses and ports that something listens on, from /proc/net/tcp and tcp6."""
    for row in map(str.split, tables.splitlines()):
        if len(row) > 3 and row[3] == "0A":
            address, _, number = row[1].partition(":")
            # Words of four bytes, each with the first byte last.
            words = (bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
            yield _specific(str(ipaddress.ip_address(b"".join(words)))), int(number, 16)


def _specific(address: str) -> str:
    return "" if address in ("0.0.0.0", "::") else address


def _process(sockets: str, port: int) -> str | None:
    """The process that listens on a port, from `ss -ltnp`."""
    for line in sockets.splitlines():
        if re.search(rf":{port}\s", line) and (match := re.search(r'\("([^"]+)",pid=(\d+)', line)):
            return f"{match[1]} (pid {match[2]})"
    return None
