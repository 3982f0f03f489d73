"""The ports that a stack publishes on a host, and the containers and processes that hold them there."""

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from infra import names
from infra.stack import Host, Stack

#: Prints the input of `taken` on a host with Docker: its published ports, its listeners and their processes.
#: The listeners are the kernel's table and not the output of `ss`, which small hosts such as Alpine's lack;
#: it adds the processes' names where it is installed.
SCRIPT = (
    "docker ps --no-trunc --format '{{.Names}}\t{{.Ports}}'; echo --; "
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; echo --; ss -Hltnp 2>/dev/null; echo --"
)
_LISTEN = "0A"  # TCP_LISTEN in the kernel's table


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a container of the stack publishes on a host. `key` is its key in the stack file.

    `address` is the IP address of the host, empty for all of them.
    """

    key: str
    number: int
    container: str
    address: str = ""


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
            yield Port(key, port.outer, names.container(stack, node, port.part), node.bind or "")
    gateway = stack.gateway
    if gateway.mode == "container" and host in (each.host for each in gateway.each):
        container = names.gateway_container(stack)
        yield Port("gateway.http", gateway.http, container, gateway.bind or "")
        yield Port("gateway.grpc", gateway.grpc, container, gateway.bind or "")


def taken(ports: Sequence[Port], output: str, others: Collection[str] = ()) -> list[Taken]:
    """The ports that are neither free nor held by their own container.

    `output` is that of `SCRIPT`. Ports held by the containers `others` count as free.
    """
    docker_ps, tables, sockets = (*output.split("--\n"), "", "", "")[:3]
    publishers = list(_publishers(docker_ps))
    listeners = list(_listeners(tables))
    result = []
    for port in ports:
        containers = [name for address, number, name in publishers if _conflicts(port, address, number)]
        if foreign := [name for name in containers if name != port.container and name not in others]:
            holder, end = f"the container {foreign[0]}", f"docker stop {foreign[0]}"
        elif not containers and any(_conflicts(port, address, number) for address, number in listeners):
            holder = _process(sockets, port.number) or "a process that this user may not see"
            end = f"find it with: ss -ltnp 'sport = :{port.number}'"
        else:
            continue
        result.append(
            Taken(
                f"{port.key}: port {port.number} is taken by {holder}",
                f"end that ({end}), or set {port.key} to another port",
            )
        )
    return result


def _conflicts(port: Port, address: str, number: int) -> bool:
    """Whether a listener on `address` and `number` prevents the port; an empty address is all of them."""
    return number == port.number and (not address or not port.address or address == port.address)


def _publishers(docker_ps: str) -> Iterator[tuple[str, int, str]]:
    """Address, port and container, from `docker ps`."""
    for line in docker_ps.splitlines():
        name, _, ports = line.partition("\t")
        for address, first, last in re.findall(r"(\S*):(\d+)(?:-(\d+))?->\d+(?:-\d+)?/tcp", ports):
            for number in range(int(first), int(last or first) + 1):
                yield _specific(address.strip("[]")), number, name


def _listeners(tables: str) -> Iterator[tuple[str, int]]:
    """Address and port of each listener, from /proc/net/tcp and tcp6."""
    for row in map(str.split, tables.splitlines()):
        if len(row) > 3 and row[3] == _LISTEN:
            address, _, number = row[1].partition(":")
            # The kernel prints words of four bytes, each with the first byte last.
            words = (bytes.fromhex(address[at : at + 8])[::-1] for at in range(0, len(address), 8))
            yield _specific(str(ipaddress.ip_address(b"".join(words)))), int(number, 16)


def _specific(address: str) -> str:
    """The address, or an empty text for all addresses."""
    return "" if address in ("0.0.0.0", "::") else address


def _process(sockets: str, port: int) -> str | None:
    """The process that listens on a port, from `ss -ltnp`."""
    for line in sockets.splitlines():
        if re.search(rf":{port}\s", line) and (match := re.search(r'\("([^"]+)",pid=(\d+)', line)):
            return f"{match[1]} (pid {match[2]})"
    return None
