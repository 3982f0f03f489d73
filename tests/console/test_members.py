"""A pool in the console: each of its pods is a node while the pool's name has it, and for a while after."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

import msgspec
import pytest

from inference_service.console import members
from inference_service.console.members import LEAVING, Members, resolve
from inference_service.console.settings import WatchedNode
from infra.gateway.watched import nodes
from tests.console.conftest import NodeDouble, Start
from tests.kubernetes.stacks import pool as pool_of
from tests.kubernetes.stacks import stack

POOL = WatchedNode("l4", "http://prod-l4.speech.svc.cluster.local:8800", host="kubernetes", pool=True)


def shown(of: Members, now: float, answering: bool = False, others: tuple[str, ...] = ()) -> dict[str, str]:
    return {each.name: each.state for each in of.nodes(lambda _: answering, others, now)}


@pytest.mark.fast
def test_each_pod_is_a_node_with_an_address_of_its_own() -> None:
    known = Members(POOL)
    known.resolved(["198.51.100.10", "198.51.100.9"], 0)
    first, second = known.nodes(lambda _: False, (), 0)
    assert (first.name, first.url, first.state) == ("l4@198.51.100.9", "http://198.51.100.9:8800", "serving")
    assert (second.name, second.host, second.pool) == ("l4@198.51.100.10", "kubernetes", msgspec.UNSET)
    known.resolved(["2001:db8::1"], 1)
    assert "http://[2001:db8::1]:8800" in {each.url for each in known.nodes(lambda _: False, (), 1)}


@pytest.mark.fast
def test_a_pool_without_pods_is_shown_itself() -> None:
    known = Members(POOL)
    known.resolved([], 0)
    assert known.nodes(lambda _: False, (), 0) == (POOL,)


@pytest.mark.fast
def test_a_pod_that_left_is_leaving_and_then_forgotten() -> None:
    known = Members(POOL)
    known.resolved(["198.51.100.9", "198.51.100.10"], 0)
    known.resolved(["198.51.100.10"], 10)
    assert shown(known, 10) == {"l4@198.51.100.9": LEAVING, "l4@198.51.100.10": "serving"}
    # It may not be ready for a while, and says why.
    assert LEAVING in shown(known, 1000, answering=True).values()
    assert shown(known, 121) == {"l4@198.51.100.10": "serving"}


@pytest.mark.fast
def test_an_address_that_another_pool_has_now_is_not_the_pod_of_before() -> None:
    known = Members(POOL)
    known.resolved(["198.51.100.9", "198.51.100.10"], 0)
    known.resolved(["198.51.100.10"], 1)
    assert shown(known, 1, True, ("198.51.100.9",)) == {"l4@198.51.100.10": "serving"}


@pytest.mark.fast
def test_a_dns_that_does_not_answer_takes_no_pod_away() -> None:
    known = Members(POOL)
    known.resolved(["198.51.100.9"], 0)
    known.resolved(None, 500)
    assert shown(known, 500) == {"l4@198.51.100.9": "serving"}


@pytest.mark.fast
def test_names_are_resolved_to_all_their_addresses() -> None:
    assert asyncio.run(resolve("http://127.0.0.1:8800")) == {"127.0.0.1"}
    assert asyncio.run(resolve("http://[::1]:8800")) == {"::1"}


@pytest.mark.fast
@pytest.mark.parametrize(("error", "found"), [(socket.EAI_NONAME, frozenset()), (socket.EAI_AGAIN, None)])
def test_a_name_without_addresses_is_told_from_a_dns_without_an_answer(
    error: int, found: frozenset[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(error, "no")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    assert asyncio.run(resolve(POOL.url)) == found


@pytest.mark.fast
def test_a_pool_can_serve_when_one_of_its_pods_can() -> None:
    healths = {"l4@192.0.2.1": "down", "l4@192.0.2.2": "healthy", "l40": "unhealthy", "a": "down"}
    assert members.health("l4", healths) == "healthy"
    assert members.health("l40", healths) == "unhealthy"
    assert members.health("a", healths) == "down"


@pytest.mark.fast
def test_the_console_of_a_cluster_gets_pools_and_that_of_hosts_the_file_of_before() -> None:
    in_cluster = stack(pool_of())
    [l4] = nodes(in_cluster, set(), {"l4": "http://prod-l4:8800"})
    assert l4.pool is True
    assert b"pool" not in msgspec.json.encode(WatchedNode("gpu-1", "http://192.0.2.1:8800"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file of names for the console alone")
def test_pods_that_come_and_go_are_on_the_page(console: Start, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.2 l4.test\n127.0.0.3 l4.test\n")
    first = NodeDouble(address="127.0.0.2")
    first.open()
    second = NodeDouble(address="127.0.0.3", port=first.port)
    second.open()
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    started = console(
        0,
        watched=(WatchedNode("l4", f"http://l4.test:{first.port}", pool=True),),
        command=("unshare", "--mount", "sh", "-c", script, str(hosts), sys.executable),
    )
    try:
        started.wait(lambda fleet: [each["health"] for each in fleet["nodes"]] == ["healthy"] * 2)
        fleet = started.fleet()
        assert [each["name"] for each in fleet["nodes"]] == ["l4@127.0.0.2", "l4@127.0.0.3"]
        started.wait(lambda fleet: all(each["figures"] for each in fleet["nodes"]))
        assert started.get("/console/api/history?part=l4@127.0.0.3").status_code == 200
        lines = started.get("/console/api/nodes/l4@127.0.0.3/log").json()["lines"]
        assert lines[0] == "first line"
        assert started.get("/console/api/entrance").json()["nodes"] == 2

        second.close()
        hosts.write_text("127.0.0.1 localhost\n127.0.0.2 l4.test\n")
        started.wait(lambda fleet: fleet["nodes"][1]["state"] == LEAVING)
        started.wait(lambda fleet: fleet["nodes"][1]["health"] == "down")
        assert (
            started.get("/console/api/entrance").json() | {"healthy": 1, "nodes": 1}
            == started.get("/console/api/entrance").json()
        )
        assert 'ai_gateway_node_healthy{node="l4",state="serving"} 1.0' in started.get("/metrics").text

        third = NodeDouble(address="127.0.0.4", port=first.port)
        third.open()
        hosts.write_text("127.0.0.1 localhost\n127.0.0.2 l4.test\n127.0.0.4 l4.test\n")
        started.wait(lambda fleet: fleet["nodes"][-1]["name"] == "l4@127.0.0.4")
        started.wait(lambda fleet: fleet["nodes"][-1]["health"] == "healthy")
        third.close()
    finally:
        first.close()
        second.close()
