"""The doctor says which gateway has the virtual address, and when two have it or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from infra.doctor.checks.virtual_address import answers, holder
from infra.doctor.findings import Failed, Finding, Status
from infra.doctor.host_access import NoAnswer
from infra.doctor.runner import Check
from infra.doctor.sites.virtual_address import VirtualAddressSite
from infra.doctor.web import HttpServer
from infra.stack import parse
from tests.ports import free_port

pytestmark = pytest.mark.fast

STACK = {
    "nodes": ["ssh://root@192.0.2.10"],
    "gateway": {
        "hosts": ["ssh://root@192.0.2.1", "ssh://root@192.0.2.2"],
        "virtualAddress": {"address": "192.0.2.100/24"},
    },
}
# As the kernel prints it; 192.0.2.10 is local, 192.0.2.1 a part of other addresses.
TABLE = """Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/28 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.10
              /32 host LOCAL
"""
HELD = (
    TABLE
    + """        |-- 192.0.2.100
           /32 host LOCAL
"""
)
PEER = (
    TABLE
    + """        |-- 192.0.2.100
           /32 link UNICAST
"""
)


class Access:
    """A host's routing table, or that the host gives none."""

    def __init__(self, table: str | None) -> None:
        self.table = table

    async def output(self, script: str) -> str:
        assert script == "cat /proc/net/fib_trie"
        if self.table is None:
            raise NoAnswer("no such file")
        return self.table


class Host:
    def __init__(self, table: str | None) -> None:
        self.access = Access(table)

    def typed(self, command: str) -> str:
        return f"ssh {command}"


def ssh(status: Status) -> Check:
    check = Check((), "ssh", "", lambda: asyncio.sleep(0))  # type: ignore[arg-type,return-value]
    check.finding = Finding((), "ssh", "", status, "", "", 0)
    return check


@pytest.mark.parametrize(
    ("tables", "connected", "status", "seen"),
    [
        ((HELD, PEER), Status.OK, Status.OK, "gateway@192.0.2.1 has 192.0.2.100"),
        ((TABLE, HELD), Status.OK, Status.OK, "gateway@192.0.2.2 has 192.0.2.100"),
        ((HELD, HELD), Status.OK, Status.PROBLEM, "split brain: gateway@192.0.2.1 and gateway@192.0.2.2"),
        ((TABLE, PEER), Status.OK, Status.PROBLEM, "no gateway has 192.0.2.100"),
        ((HELD, None), Status.OK, Status.OK, "has 192.0.2.100; not known of gateway@192.0.2.2"),
        ((HELD, HELD), Status.PROBLEM, Status.PROBLEM, "not known of gateway@192.0.2.1, gateway@192.0.2.2"),
    ],
)
def test_exactly_one_gateway_has_the_address(
    tables: tuple[str | None, ...], connected: Status, status: Status, seen: str
) -> None:
    stack = parse(STACK, "prod")
    hosts: Any = [
        (each.name, Host(table), ssh(connected))
        for each, table in zip(stack.gateway.each, tables, strict=True)
    ]
    outcome = asyncio.run(holder(VirtualAddressSite(stack, hosts)))
    assert outcome.status is status
    assert seen in outcome.seen
    if status is Status.PROBLEM:
        assert "docker logs --tail 50 prod-keepalived" in outcome.remedy


def test_an_address_that_the_network_does_not_pass_on_is_a_problem() -> None:
    hosts: Any = [("gateway@192.0.2.1", Host(HELD), ssh(Status.OK))]
    site = VirtualAddressSite(parse(STACK, "prod"), hosts)
    site.holders = ["gateway@192.0.2.1"]
    site.server = HttpServer("127.0.0.1", free_port())
    with pytest.raises(Failed) as failed:
        asyncio.run(answers(site))
    assert "cannot be reached, and gateway@192.0.2.1 has it: Connection refused" in failed.value.outcome.seen
    assert "check that the network lets hosts take addresses" in failed.value.outcome.remedy
