"""The plan of checks: every key that a check refers to is a check's, and checks run after what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infra.doctor.plan import Plan
from infra.doctor.runner import Check
from infra.embedded.layout import Layout
from infra.stack import parse

pytestmark = pytest.mark.fast

DOCKER: dict[str, Any] = {
    "nodes": [
        {"name": "gpu-1", "host": "ssh://root@192.0.2.1"},
        {"name": "edge-1", "host": "ssh://root@192.0.2.2", "runtime": "edge-llm", "drained": True},
    ],
    "service": {"image": "service:1"},
    "edgeLlm": {"unitManager": {"image": "unit-manager:1"}, "llmNode": {"image": "llm-node:1"}},
    "gateway": {"host": "ssh://root@192.0.2.3"},
}
TWO_GATEWAYS: dict[str, Any] = DOCKER | {
    "gateway": {
        "hosts": ["ssh://root@192.0.2.3", "ssh://root@192.0.2.4"],
        "virtualAddress": {"address": "192.0.2.100/24"},
    }
}
WATCHED: dict[str, Any] = DOCKER | {"monitoring": {"host": "ssh://root@192.0.2.1"}}
EMBEDDED: dict[str, Any] = {"nodes": [{"name": "one", "host": "embedded"}], "models": {"source": "sync"}}


def planned(tmp_path: Path, stack: dict[str, Any]) -> list[Check]:
    folder = tmp_path / "sessions"
    folder.mkdir()
    return Plan(parse(stack), folder, Layout(tmp_path / "state"), None).checks


def checks(tmp_path: Path, stack: dict[str, Any]) -> dict[tuple[str, str], Check]:
    return {(check.where[-1], check.name): check for check in planned(tmp_path, stack)}


def names(checks: Any) -> set[tuple[str, str]]:
    return {(check.where[-1], check.name) for check in checks}


def test_every_key_that_a_check_refers_to_is_the_key_of_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: set[str] = set()
    used: set[str] = set()
    add, everywhere = Plan._add, Plan._everywhere

    def add_noted(
        self: Plan, subject: Any, key: str, checked: str, ask: Any, *others: Any, **more: Any
    ) -> None:
        keys.add(key)
        used.update(*others)
        add(self, subject, key, checked, ask, *others, **more)

    def everywhere_noted(self: Plan, *keys: str) -> list[Check]:
        used.update(keys)
        return everywhere(self, *keys)

    monkeypatch.setattr(Plan, "_add", add_noted)
    monkeypatch.setattr(Plan, "_everywhere", everywhere_noted)
    for number, stack in enumerate([DOCKER, TWO_GATEWAYS, WATCHED, EMBEDDED]):
        (tmp_path / str(number)).mkdir()
        checks(tmp_path / str(number), stack)
    assert {"containers", "service runs", "nginx configuration", "ssh", "health"} < used
    assert used <= keys


@pytest.mark.parametrize("stack", [DOCKER, TWO_GATEWAYS, WATCHED, EMBEDDED])
def test_a_check_stands_after_those_that_it_needs_or_waits_for(tmp_path: Path, stack: dict[str, Any]) -> None:
    earlier: set[Check] = set()
    for check in planned(tmp_path, stack):
        assert {*check.needs, *check.after} <= earlier
        earlier.add(check)


def test_a_check_needs_the_container_and_the_checks_before_it(tmp_path: Path) -> None:
    plan = checks(tmp_path, DOCKER)
    assert names(plan["gpu-1", "triton"].needs) == {("gpu-1", "triton container")}
    assert names(plan["gpu-1", "drift"].needs) == {("gpu-1", "containers")}
    assert names(plan["gpu-1", "gpu in a container"].needs) == {
        ("gpu-1", "containers"),
        ("gpu-1", "gpu"),
        ("gpu-1", "nvidia runtime"),
    }
    assert names(plan["edge-1", "edge-llm setup"].needs) == {
        ("edge-1", "unit-manager container"),
        ("edge-1", "llm-node container"),
        ("edge-1", "settings"),
    }
    assert ("edge-1", "edge-llm setup") in names(plan["edge-1", "health"].needs)
    assert ("gpu-1", "model tensors") in names(plan["gpu-1", "health"].needs)
    assert names(plan["gateway", "gateway http"].needs) == {
        ("gateway", "ssh"),
        ("gateway", "nginx container"),
    }
    assert names(plan["gpu-1", "upstream gpu-1"].needs) == {("gateway", "ssh")}
    assert {("gpu-1", "ssh"), ("gpu-1", "service")} < names(plan["gpu-1", "upstream gpu-1"].after)
    assert {("gpu-1", "inference"), ("edge-1", "inference"), ("gateway", "nginx configuration")} < names(
        plan["gateway", "gateway inference"].after
    )
    assert names(plan["gpu-1", "clock"].after) >= {("edge-1", "ssh"), ("gateway", "ssh")}


def test_a_check_of_an_embedded_part_needs_its_process(tmp_path: Path) -> None:
    plan = checks(tmp_path, EMBEDDED)
    assert names(plan["one", "triton"].needs) == {("one", "triton process")}
    assert names(plan["one", "settings"].needs) == set()
    assert names(plan["gateway", "gateway http"].needs) == {("gateway", "nginx process")}


def test_each_of_several_gateways_is_checked_and_the_address_after_all_hosts_are_connected(
    tmp_path: Path,
) -> None:
    plan = checks(tmp_path, TWO_GATEWAYS)
    for gateway in ("gateway@192.0.2.3", "gateway@192.0.2.4"):
        assert {(gateway, "nginx container"), (gateway, "keepalived container")} <= plan.keys()
        assert names(plan[gateway, "gateway http"].needs) == {(gateway, "ssh"), (gateway, "nginx container")}
        assert (gateway, "ssh") in names(plan["gateway", "virtual address"].after)
    assert names(plan["gateway", "virtual address http"].needs) == {("gateway", "virtual address")}


def test_containers_of_monitoring_are_checked_on_each_host_and_files_where_prometheus_is(
    tmp_path: Path,
) -> None:
    found = checks(tmp_path, WATCHED)
    here = {name for where, name in found if where == "monitoring"}
    assert here == {
        *(f"{part} container" for part in ("prometheus", "alertmanager", "grafana", "host-exporter")),
        "gpu-exporter container",
        "monitoring files",
    }
    assert names(found["monitoring", "monitoring files"].needs) == {("gpu-1", "containers")}
    assert ("monitoring@192.0.2.3", "host-exporter container") in found
    assert ("monitoring@192.0.2.3", "gpu-exporter container") not in found
