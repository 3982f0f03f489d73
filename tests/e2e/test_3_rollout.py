"""Updates under load: every container of every node is replaced, and no client notices."""

from __future__ import annotations

import time

import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab.load import load

RATE = 25  # requests a second


def replace_everything(site: Site) -> None:
    """A change that takes every container of every node."""
    mark = str(time.time_ns())
    site.config["triton"]["env"] = {"E2E_MARK": mark}
    site.config["service"]["env"] = {"E2E_MARK": mark}


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept connections", "a connection each"])
def test_replacing_every_container_fails_no_request(site: Site, keep_alive: bool) -> None:
    replace_everything(site)
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
    with load(lambda: site.request("asr"), rate=3) as seen:
        site.up().check()
    assert not seen.failures, seen.summary()


def test_a_host_cut_off_in_the_middle_of_it_costs_no_request(site: Site) -> None:
    lost = site.fleet.hosts["gpu-2"]
    replace_everything(site)
    site.config["rollout"]["unreachable"] = "skip"
    speech = lambda: site.request("asr")  # noqa: E731 long enough to be under way when the cable is cut
    with load(site.request, rate=RATE) as short, load(speech, rate=2) as long:
        time.sleep(2)
        lost.cut()
        change = site.up().check()
    assert "gpu-2" in change.output
    assert not short.failures, short.summary()
    assert not long.failures, long.summary()
