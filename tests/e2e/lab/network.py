"""The network between the hosts: one bridge on a private subnet; one network namespace and one veth pair for
each host."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from dataclasses import dataclass

from tests.e2e.lab.prerequisites import find

# Private addresses that sites rarely use; `free_subnet` takes the first /24 without a route.
RANGE = ipaddress.IPv4Network("10.213.0.0/16")


def ip(*arguments: str, check: bool = True) -> str:
    """Runs `ip` and returns its output. With `check`, a failure raises CalledProcessError with ip's
    message."""
    done = subprocess.run([str(find("ip")), *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def free_subnet() -> ipaddress.IPv4Network:
    """A private /24 that no route of this machine covers."""
    routes = [
        ipaddress.ip_network(route["dst"], strict=False)
        for route in json.loads(ip("-j", "-4", "route") or "[]")
        if route["dst"] != "default"
    ]
    for candidate in RANGE.subnets(new_prefix=24):
        if not any(candidate.overlaps(route) for route in routes):
            return candidate
    raise RuntimeError(f"no free /24 is left in {RANGE}")


@dataclass(frozen=True)
class Bridge:
    """The switch of one fleet. This machine has the subnet's first address."""

    name: str
    subnet: ipaddress.IPv4Network

    def up(self) -> None:
        ip("link", "add", self.name, "type", "bridge")
        ip("addr", "add", f"{self.subnet[1]}/{self.subnet.prefixlen}", "dev", self.name)
        ip("link", "set", self.name, "up")

    def down(self) -> None:
        ip("link", "del", self.name, check=False)


@dataclass(frozen=True)
class Cable:
    """A host's network namespace and the veth pair from it to the bridge."""

    namespace: str
    veth: str
    address: ipaddress.IPv4Address
    bridge: Bridge

    def plug_in(self) -> None:
        """Creates the namespace and its link. This machine does not forward its packets: hosts have no route
        to the internet."""
        ip("netns", "add", self.namespace)
        ip("link", "add", self.veth, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        ip("link", "set", self.veth, "master", self.bridge.name, "up")
        inside = ("-n", self.namespace)
        ip(*inside, "addr", "add", f"{self.address}/{self.bridge.subnet.prefixlen}", "dev", "eth0")
        # A host that gets a removed one's address gets its hardware address too, as neighbours remember that.
        ip(*inside, "link", "set", "eth0", "address", f"02:00:{self.address.packed.hex(':')}")
        ip(*inside, "link", "set", "eth0", "up")
        ip(*inside, "link", "set", "lo", "up")
        ip(*inside, "route", "add", "default", "via", str(self.bridge.subnet[1]))

    def cut(self) -> None:
        """Takes the link down: packets in both directions are lost, as with an unplugged cable."""
        ip("link", "set", self.veth, "down")

    def restore(self) -> None:
        ip("link", "set", self.veth, "up")

    def remove(self) -> None:
        ip("link", "del", self.veth, check=False)
        ip("netns", "del", self.namespace, check=False)
