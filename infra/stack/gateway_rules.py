"""The rules of a gateway that span several of its keys."""

import ipaddress
from collections.abc import Iterator, Mapping

from infra.stack.gateway import Gateway, VirtualAddress
from infra.stack.hosts import EmbeddedHost, SshHost, machine_of
from infra.stack.node import Node
from infra.stack.problems import Problem


def check(nodes: Mapping[int, Node], gateway: Gateway) -> Iterator[Problem]:
    """Yields the problems of every rule; `nodes` are the valid nodes by position."""
    if gateway.hosts and "host" in gateway.model_fields_set:
        yield Problem("gateway.hosts", "expected gateway.host or gateway.hosts, got both")
        return
    here = isinstance(gateway.host, EmbeddedHost)
    if gateway.mode == "embedded" and not here:
        yield Problem(
            "gateway.hosts[0]" if gateway.hosts else "gateway.host",
            f"mode embedded runs on this computer; expected embedded, got {gateway.host}",
        )
    if gateway.mode == "container" and here and not gateway.hosts:
        yield Problem("gateway.host", "mode container needs a Docker host; expected ssh://… or unix://…")
    if any(isinstance(each.host, SshHost) for each in gateway.each):
        for position, node in nodes.items():
            if node.embedded and node.public_host == node.host.address:
                yield Problem(
                    f"nodes[{position}].publicHost",
                    "required: the gateway is on another computer and cannot dial 127.0.0.1 here",
                )
    if gateway.mode == "existing" and gateway.console.enabled:
        yield Problem("gateway.console.enabled", "an existing nginx has no console; expected false")
    yield from _hosts(gateway)
    if gateway.virtual_address is not None:
        yield from _virtual_address(gateway, gateway.virtual_address)


def _hosts(gateway: Gateway) -> Iterator[Problem]:
    """Several gateways are containers on as many machines."""
    if gateway.several and gateway.mode != "container":
        yield Problem(
            "gateway.mode", f"several gateways are containers; expected container, got {gateway.mode}"
        )
        return
    if gateway.several and gateway.bind not in (None, "0.0.0.0"):
        yield Problem("gateway.bind", "the hosts of several gateways have no address in common; leave it out")
    machines: dict[str, int] = {}
    for position, host in enumerate(gateway.hosts):
        path = f"gateway.hosts[{position}]"
        if gateway.mode == "container" and isinstance(host, EmbeddedHost):
            yield Problem(path, "mode container needs a Docker host; expected ssh://… or unix://…")
        first = machines.setdefault(machine_of(host).lower(), position)
        if first != position:
            yield Problem(path, f"is the machine of gateway.hosts[{first}]")


def _virtual_address(gateway: Gateway, virtual: VirtualAddress) -> Iterator[Problem]:
    path = "gateway.virtualAddress"
    if not gateway.several:
        yield Problem(path, "moves between gateways; expected two or more gateway.hosts")
        return
    if virtual.peers and len(virtual.peers) != len(gateway.hosts):
        yield Problem(
            f"{path}.peers",
            f"expected one for each of the {len(gateway.hosts)} gateway.hosts, got {len(virtual.peers)}",
        )
        return
    taken: dict[str, int] = {}
    for position, own in enumerate(gateway.own_addresses):
        at = f"{path}.peers[{position}]"
        if not _is_v4(own) or ipaddress.IPv4Address(own).is_loopback:
            if virtual.peers:
                yield Problem(at, f"expected an IPv4 address, got {own}")
            else:
                yield Problem(
                    f"{path}.peers",
                    f"required: the gateways' own IPv4 addresses; {own} is none that the others can dial",
                )
                return
        elif own == virtual.ip:
            yield Problem(
                f"{path}.address",
                f"expected an address that no host has, got that of gateway.hosts[{position}]",
            )
        first = taken.setdefault(own, position)
        if first != position:
            yield Problem(at, f"{own} is also {path}.peers[{first}]")


def _is_v4(address: str) -> bool:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return False
    return True
