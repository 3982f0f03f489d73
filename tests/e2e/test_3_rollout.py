"""Updates under load: every container of every node is replaced, and no client notices."""

from __future__ import annotations

import time
from pathlib import Path

import httpx2
import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab.load import load

RATE = 25  # requests a second


def replace_everything(site: Site) -> None:
    site.mark(str(time.time_ns()))


@pytest.mark.parametrize(
    "keep_alive",
    [True, pytest.param(False, marks=pytest.mark.long)],
    ids=["kept connections", "a connection each"],
)
def test_replacing_every_container_and_volume_fails_no_request(site: Site, keep_alive: bool) -> None:
    replace_everything(site)
    site.config["triton"]["shmSize"] = "768m"
    with load(site.request, rate=RATE, keep_alive=keep_alive) as seen:
        change = site.change()
    assert change.touched_hosts == {"gpu-1", "gpu-2"}
    on_nodes = {key for key in change.before if key[0] != "gateway"}
    assert change.touched == on_nodes, "every container of every node is another one"
    assert len(seen.outcomes) > RATE
    assert not seen.failures, seen.summary()


def test_nodes_change_one_after_the_other_canary_first(site: Site) -> None:
    replace_everything(site)
    site.up().check()
    started = {
        host.name: [
            host.docker("inspect", "--format", "{{.Created}}", name).stdout.strip()
            for name in host.containers()
        ]
        for host in site.gpu_hosts()
    }
    assert max(started["gpu-1"]) < min(started["gpu-2"])


def test_long_requests_finish_on_the_container_that_they_began_on(site: Site) -> None:
    replace_everything(site)
    with load(lambda: speech(site), rate=2) as seen:
        site.up().check()
    assert not seen.failures, seen.summary()


def speech(site: Site) -> httpx2.Request:
    """A request that takes long enough to be running when a cable is cut."""
    return site.request("asr")


def test_a_host_that_is_cut_off_costs_no_request(site: Site) -> None:
    with load(site.request, rate=RATE) as short, load(lambda: speech(site), rate=2) as long:
        time.sleep(2)
        site.fleet.hosts["gpu-2"].cut()
        time.sleep(15)
    assert not short.failures, short.summary()
    assert not long.failures, long.summary()


@pytest.mark.long
def test_an_update_while_one_host_is_cut_off_costs_no_request(site: Site, docker_data: Path) -> None:
    """Of three nodes one is cut off, one is being replaced, and one serves."""
    third = site.fleet.add("gpu-3", gpu=True, docker_data=docker_data)
    lost = site.fleet.hosts["gpu-2"]
    try:
        third.power_on()
        third.wait_ready()
        site.config["nodes"].append({"name": "gpu-3", "host": third.url})
        site.up().check()
        replace_everything(site)
        site.config["rollout"]["unreachable"] = "skip"
        with load(site.request, rate=RATE) as short, load(lambda: speech(site), rate=2) as long:
            time.sleep(2)
            lost.cut()
            update = site.up().check()
        assert "gpu-2" in update.diagnostics
        # The machine follows the name of the part.
        containers = [name for name in update.steps if "Container::" in name]
        assert {name.partition("@")[0] for name in containers if "service" in name} == {
            "docker:index/container:Container::gpu-1-service",
            "docker:index/container:Container::gpu-3-service",
        }
        assert not short.failures, short.summary()
        assert not long.failures, long.summary()
    finally:
        lost.restore()
        site.settle()
        site.fleet.hosts.pop("gpu-3").remove()
