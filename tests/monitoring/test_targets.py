"""The targets that a stack tells a Prometheus."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.monitoring.targets import targets
from infra.stack import parse

pytestmark = pytest.mark.fast

HOSTS = ["ssh://root@192.0.2.10", "ssh://root@192.0.2.11"]


def of(**config: Any) -> dict[str, list[dict[str, Any]]]:
    return targets(parse({"nodes": HOSTS, **config}, source="a test", name="prod"))


def test_gateways_nodes_and_hosts_are_told_with_their_names() -> None:
    found = of()
    assert found["gateways"] == [
        {"targets": ["192.0.2.10:8080"], "labels": {"stack": "prod", "__scheme__": "http"}}
    ]
    assert [each["labels"]["node"] for each in found["nodes"]] == ["192-0-2-10", "192-0-2-11"]
    assert [each["targets"] for each in found["hosts"]] == [["192.0.2.10:9100"], ["192.0.2.11:9100"]]


def test_a_gateway_is_read_as_its_clients_reach_it() -> None:
    tls = {"certificate": "/etc/a.pem", "key": "/etc/b.pem"}
    [gateway] = of(gateway={"publicHost": "ai.example.com", "http": 443, "tls": tls})["gateways"]
    assert gateway["targets"] == ["ai.example.com:443"]
    assert gateway["labels"]["__scheme__"] == "https"


def test_what_cannot_be_read_is_no_target() -> None:
    assert of(tls={"nodes": True})["nodes"] == []
    assert of(gateway={"console": {"enabled": False}})["gateways"] == []


def test_a_machine_is_one_host() -> None:
    other: dict[str, Any] = {"name": "other", "host": HOSTS[0], "ports": {"http": 8900, "grpc": 9900}}
    found = of(nodes=[{"name": "one", "host": HOSTS[0]}, other])
    assert (len(found["nodes"]), len(found["hosts"])) == (2, 1)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (tests/install.sh)")
def test_promtool_accepts_each_list(tmp_path: Path) -> None:
    scrapes = []
    for name, found in of().items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
        scrapes.append({"job_name": name, "file_sd_configs": [{"files": [str(tmp_path / f"{name}.json")]}]})
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": scrapes}))
    done = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
