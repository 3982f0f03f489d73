"""The virtual address of several gateways: exactly one of them has it, and it answers."""

import re
import time

from infra.doctor.answers import expected
from infra.doctor.findings import Outcome, Status, ok, problem
from infra.doctor.host_access import NoAnswer
from infra.doctor.sites.virtual_address import VirtualAddressSite

# The kernel's own table, which needs no tool: each local address is on a line before this one.
_TABLE = "cat /proc/net/fib_trie"
_LOCAL = r"\|-- {address}\n\s+/32 host LOCAL"


async def holder(virtual: VirtualAddressSite) -> Outcome:
    """Which gateways have the address. Two of them do not hear each other."""
    unknown: list[str] = []
    for name, host, ssh in virtual.hosts:
        if ssh.finding is None or ssh.finding.status is Status.PROBLEM:
            unknown.append(name)
            continue
        try:
            table = await host.access.output(_TABLE)
        except NoAnswer:
            unknown.append(name)
            continue
        if re.search(_LOCAL.format(address=re.escape(virtual.ip)), table):
            virtual.holders.append(name)
    beside = f"; not known of {', '.join(unknown)}" if unknown else ""
    if not virtual.holders:
        return problem(
            f"no gateway has {virtual.ip}{beside}", f"see why keepalived gives it away: {virtual.logs}"
        )
    if len(virtual.holders) > 1:
        return problem(
            f"split brain: {' and '.join(virtual.holders)} have {virtual.ip} at the same time{beside}",
            f"let IP protocol 112 (VRRP) pass between {virtual.peers}, on one link; {virtual.logs}",
        )
    return ok(f"{virtual.holders[0]} has {virtual.ip}{beside}")


async def answers(virtual: VirtualAddressSite) -> Outcome:
    """Whether the address answers this computer."""
    begin = time.monotonic()
    await expected(
        virtual.server.get("/health"),
        f"check that the network lets hosts take addresses, and that no firewall blocks it; {virtual.logs}",
        unreachable=f"{virtual.server.url} cannot be reached, and {virtual.holders[0]} has it: {{error}}",
        refused=f"{virtual.server.url}/health: {{error}}",
    )
    return ok(f"{virtual.server.url} answers in {1000 * (time.monotonic() - begin):.0f} ms")
