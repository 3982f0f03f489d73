"""Two gateways with a virtual address: it moves when a gateway fails, and they change one after the other."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab import keepalived
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.lab.load import Load, load
from tests.e2e.test_8_doctor import doctor

pytestmark = pytest.mark.long

RATE = 20  # requests a second
CONTAINER = "e2e-gateway"


class Pair:
    """The two gateways and the address that one of them holds."""

    def __init__(self, site: Site, hosts: list[Host]) -> None:
        self.site, self.hosts = site, hosts
        self.address = str(site.fleet.bridge.subnet[200])

    @property
    def url(self) -> str:
        return f"http://{self.address}:8080"

    def holders(self) -> list[Host]:
        return [
            host for host in self.hosts if f" {self.address}/" in host.run("ip", "-o", "-4", "address").stdout
        ]

    def other(self, host: Host) -> Host:
        return next(each for each in self.hosts if each is not host)

    def one_holds_it(self) -> Host:
        """The gateway with the address, as soon as exactly one has it."""
        wait_until("one gateway holds the address", lambda: len(self.holders()) == 1)
        return self.holders()[0]

    def load(self, patience: float = 30) -> AbstractContextManager[Load]:
        """Clients of the virtual address that make a new connection for each request."""
        return load(lambda: self.site.request(url=self.url), rate=RATE, keep_alive=False, patience=patience)


@pytest.fixture(scope="module")
def pair(deployed: Site, docker_data: Path) -> Iterator[Pair]:
    """A second gateway beside the first, with a virtual address; at the end the first one alone."""
    deployed.settle()
    second = deployed.fleet.add("gateway-2", docker_data=docker_data)
    second.power_on()
    second.wait_ready()
    pair = Pair(deployed, [deployed.gateway, second])
    for host in pair.hosts:
        keepalived.load(host)
    gateway = deployed.config["gateway"]
    gateway["hosts"] = [gateway.pop("host"), second.url]
    gateway["virtualAddress"] = {
        "address": f"{pair.address}/{deployed.fleet.bridge.subnet.prefixlen}",
        "build": {"args": {"BASE_IMAGE": keepalived.BASE}},
    }
    yield pair
    for host in pair.hosts:
        host.restore()
    deployed.settle()
    assert pair.address not in deployed.gateway.run("ip", "-o", "-4", "address").stdout
    assert second.containers(everything=True) == {}
    deployed.fleet.hosts.pop("gateway-2").remove()


def findings(site: Site) -> dict[tuple[str, str], dict[str, Any]]:
    """The doctor's findings by part and check."""
    return {(each["where"][0], each["check"]): each for each in doctor(site).findings}


def assert_clients_go_on(seen: Load, failed_at: float, seconds: float) -> None:
    """Checks that only requests around the failure failed: those under way, and new ones for `seconds`."""
    others = [each for each in seen.failures if not failed_at - 1 <= each.at <= failed_at + seconds]
    assert not others, f"failed at {failed_at:.2f} s; {seen.summary()}"
    assert len(seen.since(failed_at + seconds)) > RATE, "enough requests to tell"


def test_a_second_gateway_joins_without_a_failed_request(pair: Pair) -> None:
    site = pair.site
    with load(site.request, rate=RATE) as seen:
        change = site.change()
    assert change.as_previewed()
    assert change.touched_hosts == {"gateway", "gateway-2"}
    assert not seen.failures, seen.summary()
    holder = pair.one_holds_it()
    assert "emotions" in site.ask(url=pair.url)
    for host in pair.hosts:
        assert "emotions" in site.ask(url=f"http://{host.address}:8080")
    told = str(site.program.outputs()["gateway"])
    assert all(
        f"http://{address}:8080" in told for address in (pair.address, *(h.address for h in pair.hosts))
    )
    again = site.program.preview("--diff").check()
    assert site.up().check().steps == {}, again.output
    assert pair.one_holds_it() is holder


def test_the_doctor_names_the_holder_and_a_split_brain(pair: Pair) -> None:
    holder = pair.one_holds_it()
    report = findings(pair.site)
    assert report["gateway", "virtual address"]["seen"] == f"gateway@{holder.address} has {pair.address}"
    assert report["gateway", "virtual address http"]["status"] == "ok"
    for host in pair.hosts:
        for check in ("nginx container", "keepalived container", "nginx configuration", "gateway http"):
            assert report[f"gateway@{host.address}", check]["status"] == "ok", report
    other = pair.other(holder)
    other.run("ip", "address", "add", f"{pair.address}/32", "dev", "eth0")
    found = findings(pair.site)["gateway", "virtual address"]
    other.run("ip", "address", "delete", f"{pair.address}/32", "dev", "eth0")
    assert found["status"] == "problem"
    assert "split brain" in found["seen"]


def test_a_change_of_the_gateways_fails_no_request(pair: Pair) -> None:
    site = pair.site
    site.config["gateway"]["connectionLimit"] = 900
    with pair.load() as seen:
        change = site.change()
    assert change.as_previewed()
    assert len([name for name in change.applied.steps if "gateway-config" in name]) == 2
    assert not seen.failures, seen.summary()
    print(f"change of both gateways: {seen.summary()}")


def test_the_address_moves_before_a_gateways_container_is_replaced(pair: Pair) -> None:
    site = pair.site
    site.config["gateway"]["grpc"] = 9081
    with pair.load(patience=3) as seen:
        change = site.change()
    print(f"both containers replaced: {seen.summary()}")
    assert change.as_previewed()
    assert change.touched == {
        (host.name, name) for host in pair.hosts for name in (CONTAINER, "e2e-keepalived")
    }
    # Each move may break the connections that are open at that moment.
    assert len(seen.failures) <= 4, seen.summary()
    assert pair.one_holds_it()


def test_clients_go_on_when_a_gateways_host_is_cut_off_and_when_it_returns(pair: Pair) -> None:
    holder = pair.one_holds_it()
    with pair.load(patience=3) as seen:
        began = time.monotonic()
        time.sleep(3)
        holder.cut()
        cut_at = time.monotonic() - began
        time.sleep(8)
        assert pair.address in pair.other(holder).run("ip", "-o", "-4", "address").stdout
    print(f"cut off: {seen.summary()}")
    assert_clients_go_on(seen, cut_at, 3)
    with pair.load() as seen:
        time.sleep(2)
        holder.restore()
        time.sleep(8)
    print(f"returned: {seen.summary()}")
    assert not seen.failures, seen.summary()
    assert pair.one_holds_it() is pair.other(holder), "each move breaks connections, so the address stays"


def test_a_gateway_whose_nginx_dies_gives_the_address_away(pair: Pair) -> None:
    holder = pair.one_holds_it()
    with pair.load(patience=3) as seen:
        began = time.monotonic()
        time.sleep(2)
        holder.docker("stop", "--time", "0", CONTAINER)
        died_at = time.monotonic() - began
        time.sleep(7)
    print(f"nginx died: {seen.summary()}")
    assert_clients_go_on(seen, died_at, 3)
    assert pair.one_holds_it() is pair.other(holder)
    holder.docker("start", CONTAINER)


def test_keepalived_that_ends_hands_the_address_over(pair: Pair) -> None:
    holder = pair.one_holds_it()
    with pair.load(patience=3) as seen:
        began = time.monotonic()
        time.sleep(2)
        ended_at = time.monotonic() - began
        holder.docker("stop", "e2e-keepalived")
        time.sleep(5)
    print(f"keepalived ended: {seen.summary()}")
    assert_clients_go_on(seen, ended_at, 2)
    assert pair.one_holds_it() is pair.other(holder)
    holder.docker("start", "e2e-keepalived")


def test_keepalived_that_is_killed_leaves_no_second_holder(pair: Pair) -> None:
    holder = pair.one_holds_it()
    holder.docker("kill", "e2e-keepalived")
    wait_until("the other takes it", lambda: pair.other(holder) in pair.holders())
    holder.docker("start", "e2e-keepalived")
    assert pair.one_holds_it()
    assert "emotions" in pair.site.ask(url=pair.url)


def test_a_change_while_a_gateway_is_away_reaches_it_when_it_is_back(pair: Pair) -> None:
    site = pair.site
    away = pair.one_holds_it()
    other = pair.other(away)
    site.config["rollout"]["unreachable"] = "skip"
    site.config["gateway"]["connectionLimit"] = 800
    away.cut()
    wait_until("the other takes it", lambda: other in pair.holders())
    before = copy.deepcopy(site.containers())
    with pair.load() as seen:
        skipped = site.up().check()
    assert not seen.failures, seen.summary()
    assert {name.rpartition("@")[2] for name in skipped.steps if "gateway-config" in name} == {other.address}
    assert site.containers() == before
    away.restore()
    healed = site.up().check()
    assert {name.rpartition("@")[2] for name in healed.steps if "gateway-config" in name} >= {away.address}
    assert site.up().check().steps == {}
