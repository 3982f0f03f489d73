"""An update takes down no node that is needed: returning nodes serve first, and sick ones change first."""

from __future__ import annotations

import re
import time

from tests.e2e.deployment import Site
from tests.e2e.lab.load import load

RATE = 20  # requests a second


def test_a_returning_node_serves_before_the_canary_changes(site: Site) -> None:
    site.node("gpu-2")["drained"] = True
    site.up().check()
    site.config["service"]["maxConcurrency"] = 41
    alone = site.preview().check().output
    assert "no other node serves while gpu-1 changes" in alone
    assert re.search(r"The last time it took \d+ s", alone), alone
    site.node("gpu-2")["drained"] = False
    assert "no other node serves" not in site.preview().check().output
    with load(site.request, rate=RATE) as seen:
        update = site.up().check()
    assert "node gpu-2 answers and gets traffic again" in update.output
    assert not seen.failures, seen.summary()


def test_a_node_that_lost_its_containers_changes_first_and_a_plain_up_heals_it(site: Site) -> None:
    host = site.fleet.hosts["gpu-2"]
    lost = host.containers()
    for name in lost:
        host.docker("rm", "--force", name)
    site.config["service"]["maxConcurrency"] = 42
    with load(site.request, rate=RATE) as seen:
        update = site.up().check()
    assert "gpu-2" in update.diagnostics
    assert host.containers().keys() == lost.keys()
    assert site.healthy(host)
    created = {
        each.name: each.docker("inspect", "--format", "{{.Created}}", "e2e-" + each.name + "-service").stdout
        for each in site.gpu_hosts()
    }
    assert created["gpu-2"] < created["gpu-1"], "the node that served changed last"
    assert not seen.failures, seen.summary()
    assert site.up().check().steps == {}


def test_the_last_node_that_serves_stays_as_it_is(site: Site) -> None:
    site.config["rollout"]["unreachable"] = "skip"
    site.config["service"]["maxConcurrency"] = 43
    before = site.containers()
    site.fleet.hosts["gpu-2"].cut()
    with load(site.request, rate=RATE) as seen:
        refused = site.up()
        time.sleep(1)
    assert refused.returncode != 0
    assert "node gpu-1 stays as it is: 0 other nodes serve" in refused.diagnostics
    assert "gpu-2: its host cannot be reached" in refused.diagnostics
    assert site.containers() == before
    assert not seen.failures, seen.summary()
