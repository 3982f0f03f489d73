"""Nodes get other names and other places, in one `up` and without a failed request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Change, Site
from tests.e2e.lab.host import Host
from tests.e2e.lab.load import Load, load

RATE = 20  # requests a second


@pytest.fixture(autouse=True)
def first_state_again(deployed: Site) -> Iterator[None]:
    deployed.settle()
    yield
    deployed.settle()


def moved(site: Site) -> tuple[Change, Load]:
    """The change of the site to its present stack file, under load."""
    with load(site.request, rate=RATE) as seen:
        change = site.change()
    print(f"{change.applied.seconds:.0f} s, {seen.summary()}")
    return change, seen


def assert_moved(site: Site, change: Change, seen: Load) -> None:
    assert change.as_previewed(), f"{change.previewed.steps}\n--\n{change.applied.steps}"
    assert not seen.failures, seen.summary()
    assert site.up().check().steps == {}
    for node in site.config["nodes"]:
        host = next(each for each in site.fleet.hosts.values() if each.url == node["host"])
        there = host.containers(everything=True)
        assert set(there) == {f"e2e-{node['name']}-{part}" for part in ("triton", "service")}, there
        assert "emotions" in site.ask(url=f"http://{host.address}:8800")
    for _ in range(10):
        site.ask()


def test_a_node_gets_another_name_on_its_host(deployed: Site) -> None:
    deployed.node("gpu-2")["name"] = "gpu-two"
    assert_moved(deployed, *moved(deployed))


def test_two_nodes_swap_their_hosts(deployed: Site) -> None:
    first, second = deployed.node("gpu-1"), deployed.node("gpu-2")
    first["host"], second["host"] = second["host"], first["host"]
    assert_moved(deployed, *moved(deployed))


@pytest.mark.long
def test_a_swap_that_fails_is_put_back_and_the_next_up_swaps(deployed: Site) -> None:
    first, second = deployed.node("gpu-1"), deployed.node("gpu-2")
    first["host"], second["host"] = second["host"], first["host"]
    deployed.config["service"]["memory"] = "16m"
    before = deployed.containers()
    with load(deployed.request, rate=RATE) as seen:
        update = deployed.up()
    assert update.returncode != 0
    assert "e2e-gpu-2-service" in update.diagnostics, update.diagnostics
    assert "runs again" in update.diagnostics, update.diagnostics
    running = {name for host in deployed.gpu_hosts() for name in host.containers()}
    assert running == {f"e2e-gpu-{n}-{part}" for n in (1, 2) for part in ("triton", "service")}
    after = deployed.containers()
    assert {key: after.get(key) for key in before} == before, "the same containers"
    assert not seen.failures, seen.summary()
    deployed.config["service"].pop("memory")
    with load(deployed.request, rate=RATE) as seen:
        deployed.up().check()
    assert not seen.failures, seen.summary()
    print(seen.summary())
    assert set(deployed.fleet.hosts["gpu-2"].containers(everything=True)) == {
        "e2e-gpu-1-triton",
        "e2e-gpu-1-service",
    }


@pytest.mark.long
def test_a_chain_of_nodes_moves_one_host_further(deployed: Site, third: Host) -> None:
    left = deployed.fleet.hosts["gpu-1"]
    deployed.node("gpu-1")["host"] = deployed.node("gpu-2")["host"]
    deployed.node("gpu-2")["host"] = third.url
    assert_moved(deployed, *moved(deployed))
    assert left.containers(everything=True) == {}
