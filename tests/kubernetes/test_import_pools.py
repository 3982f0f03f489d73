"""A stack file for hosts becomes one for a cluster, without a mistake in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.paths import PROJECT
from infra.stack import Stack, load_file
from infra.stack.__main__ import main

pytestmark = pytest.mark.fast

A, B, C = (f"ssh://root@192.0.2.1{n}" for n in range(3))


def imported(tmp_path: Path, config: dict[str, Any], **others: str) -> tuple[Stack, dict[str, Any]]:
    """The stack in a cluster and its document, from a stack file for hosts."""
    source, target = tmp_path / "Pulumi.prod.yaml", tmp_path / "Pulumi.cluster.yaml"
    keys = {f"gpu-inference:{key}": value for key, value in config.items()}
    source.write_text(yaml.safe_dump({**others, "config": keys}))
    assert main(["import-pools", str(source), str(target)]) == 0
    assert main(["check", str(target)]) == 0
    return load_file(target), yaml.safe_load(target.read_text())


def test_nodes_that_are_alike_become_one_pool(tmp_path: Path) -> None:
    stack, _ = imported(tmp_path, {"nodes": [A, {"host": B, "name": "second"}, {"host": C, "gpus": [0, 1]}]})
    assert [(each.name, each.replicas, each.gpus) for each in stack.pools] == [
        ("all-tasks", 2, 1),
        ("all-tasks-2", 1, 2),
    ]


def test_a_fleet_of_equal_nodes_is_one_pool_of_that_name(tmp_path: Path) -> None:
    stack, _ = imported(tmp_path, {"nodes": [A, B]})
    assert [(each.name, each.replicas) for each in stack.pools] == [("nodes", 2)]


def test_what_a_node_serves_comes_over(tmp_path: Path) -> None:
    nodes = [{"host": A, "tasks": ["asr"], "weight": 3}, {"host": B, "gpus": "none", "drained": True}]
    stack, _ = imported(tmp_path, {"nodes": nodes})
    speech, other = stack.pools
    assert (speech.tasks, speech.weight, speech.gpus) == (["asr"], 3, 1)
    assert (other.drained, other.gpus) == (True, 0)


def test_the_documented_stack_comes_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load((PROJECT / "Pulumi.example.yaml").read_text())["config"]
    stack, _ = imported(tmp_path, {key.partition(":")[2]: value for key, value in document.items()})
    assert {each.runtime for each in stack.pools} == {"triton", "edge-llm", "remote"}
    said = capsys.readouterr().err
    for key in ("ports", "ssh", "gateway.host", "rollout.unreachable", "triton.pidsLimit", "models.source"):
        assert key in said


@pytest.mark.parametrize(
    "config",
    [
        {"gateway": {"hosts": [A, B], "virtualAddress": {"address": "192.0.2.100/24"}}},
        {"gateway": {"host": A, "grpcBalancing": "layer4", "bind": "192.0.2.10"}},
        {"gateway": {"host": A, "tls": {"certificate": "/etc/a.pem", "key": "/etc/b.pem"}}},
        {"gateway": {"mode": "existing", "host": A}},
        {"rollout": {"minHealthy": 1, "batch": "50%"}},
        {"triton": {"user": "triton"}},
        {"models": {"source": "s3://bucket/models"}},
        {"models": {"source": "sync", "path": "./model_repository"}},
        {"service": {"image": "registry.example.com/service:1"}},
        {"images": {"build": "everywhere"}},
        {"apiKeys": {"secure": "v1:example"}},
    ],
)
def test_whatever_a_fleet_on_hosts_has_the_result_has_no_mistake(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    stack, _ = imported(tmp_path, {"nodes": [A, B], **config})
    assert stack.in_cluster


@pytest.mark.parametrize(
    ("monitoring", "said"),
    [
        ({}, []),
        (
            {
                "host": A,
                "prometheus": {"bind": "192.0.2.10"},
                "alertmanager": {"webhook": "https://hooks.example.com/a"},
                "grafana": False,
                "exporters": {"gpus": False},
            },
            ["host", "prometheus", "alertmanager", "grafana", "exporters"],
        ),
    ],
)
def test_what_watches_hosts_becomes_objects_for_the_operator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monitoring: dict[str, Any], said: list[str]
) -> None:
    stack, document = imported(tmp_path, {"nodes": [A, B], "monitoring": monitoring})
    assert stack.kubernetes.monitoring.by == "operator"
    assert "gpu-inference:monitoring" not in document["config"]
    told = capsys.readouterr().err
    assert "kubernetes.monitoring.by: the Prometheus operator" in told
    assert all(f"monitoring.{key} is left out: " in told for key in said)


def test_a_prometheus_that_is_there_stays_that_of_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    existing = {"existing": "http://prometheus.example.com:9090"}
    stack, document = imported(tmp_path, {"nodes": [A], "monitoring": existing})
    assert document["config"]["gpu-inference:monitoring"] == existing
    assert stack.kubernetes.monitoring.by == "annotations"
    assert "monitoring.existing: the gateway's pods must reach it" in capsys.readouterr().err


def test_encrypted_values_and_what_decrypts_them_stay(tmp_path: Path) -> None:
    secret = {"secure": "v1:example"}
    _, document = imported(tmp_path, {"nodes": [A], "apiKeys": secret}, encryptionsalt="v1:salt")
    assert document["encryptionsalt"] == "v1:salt"
    assert document["config"]["gpu-inference:apiKeys"] == secret


def test_a_file_that_exists_and_a_stack_in_a_cluster_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(tmp_path, {"nodes": [A]})
    source, target = str(tmp_path / "Pulumi.prod.yaml"), str(tmp_path / "Pulumi.cluster.yaml")
    assert main(["import-pools", source, target]) == 1
    assert main(["import-pools", target]) == 1
    assert "target: is kubernetes already" in capsys.readouterr().err
