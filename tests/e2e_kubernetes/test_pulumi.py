"""Pulumi brings a stack up in a cluster, changes exactly what changed, repairs drift, and takes all away."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.paths import pulumi_cli
from tests.e2e.lab.program import Program, Result
from tests.e2e_kubernetes.conftest import kubectl
from tests.e2e_kubernetes.machine import Machine
from tests.e2e_kubernetes.test_objects import until
from tests.kubernetes.stacks import BASE


def provider() -> bool:
    """Whether the Pulumi CLI is there, and the provider's plugin."""
    cli = pulumi_cli()
    if cli is None:
        return False
    listed = subprocess.run([cli, "plugin", "ls", "--json"], capture_output=True, text=True, check=False)
    return any(each["name"] == "kubernetes" for each in json.loads(listed.stdout or "[]"))


pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not provider(), reason="no Pulumi CLI with the provider kubernetes"),
]
#: The kinds of the Prometheus operator: the stack has them where the cluster knows them.
OF_OPERATOR = {"PodMonitor", "PrometheusRule"}
ALL = "deployments,services,configmaps,secrets,poddisruptionbudgets,networkpolicies,pods"


@pytest.fixture
def config(namespace: str, kinds: set[str]) -> dict[str, Any]:
    # No load balancer gives the Service of this cluster an address.
    reached = {"kubeconfig": str(Path(os.environ["KUBECONFIG"]).resolve())}
    kubernetes: dict[str, Any] = {**reached, "namespace": namespace, "service": {"type": "NodePort"}}
    if kinds >= OF_OPERATOR:
        kubernetes["monitoring"] = {"by": "operator"}
    # The pods of this machine are only reported as ready, so nobody can ask them to work.
    changes = {"rollout": {"judge": False}}
    return copy.deepcopy({**BASE, **changes, "kubernetes": kubernetes, "apiKeys": ["example-key-1"]})


@pytest.fixture
def program(tmp_path: Path, config: dict[str, Any], machine: Machine, claim: None) -> Iterator[Program]:
    made = Program(tmp_path, "prod")
    made.configure(config)
    yield made
    made.destroy().check()


def names(namespace: str, kinds: str = ALL) -> set[str]:
    """The objects in a namespace, without those that a cluster puts into every one."""
    found = kubectl("get", kinds, "-n", namespace, "-o", "name").split()
    return {each for each in found if not each.endswith("-ca.crt")}


def findings(program: Program, check: str) -> list[dict[str, Any]]:
    """What the doctor finds by a check of the cluster."""
    told = program.module("infra.doctor", "--stack", program.stack, "--json")
    found = json.loads(told.stdout)["findings"]
    return [each for each in found if each["check"] == check and each["where"] == ["cluster"]]


def changed(result: Result) -> set[str]:
    """The resources that an update changed; names of what pods read end with a digest."""
    return {re.sub("-[0-9a-f]{10}-", "-…-", each.rpartition("::")[2]) for each in result.steps}


def test_a_stack_comes_up_stays_as_it_is_changes_is_repaired_and_goes(
    program: Program, config: dict[str, Any], namespace: str, kinds: set[str]
) -> None:
    preview = program.preview().check()
    assert names(namespace) == set(), "a preview changes nothing"
    up = program.up().check()
    assert up.steps == preview.steps
    there = names(namespace)
    assert {"deployment.apps/prod-l4", "deployment.apps/prod-gateway", "service/prod-gateway"} <= there
    watching = ",".join(sorted(OF_OPERATOR)) if kinds >= OF_OPERATOR else ""
    if watching:
        known = "monitoring.coreos.com/prod"
        assert names(namespace, watching) == {f"podmonitor.{known}-nodes", f"prometheusrule.{known}-alerts"}
    pods = json.loads(kubectl("get", "pods", "-n", namespace, "-o", "json"))["items"]
    assert len(pods) == 4
    assert program.outputs()["nodes"]["l4"]["pods"] == {"least": 2, "most": 2}

    again = program.up().check()
    assert again.steps == {}, "nothing changed"

    # Another setting starts the pool's pods anew, and the preview says so.
    config["nodes"][0]["replicas"] = 3
    config["service"]["maxConcurrency"] = 8
    program.configure(config)
    preview = program.preview().check()
    up = program.up().check()
    assert preview.steps == up.steps
    deployments = {
        f"l4{track}-{kind}" for track in ("", "-canary") for kind in ("deployment", "good-configmap")
    }
    assert changed(up) == {"l4-settings-…-secret", *deployments}
    assert len([each for each in names(namespace, "secrets") if "l4-settings" in each]) == 1
    assert program.up().check().steps == {}

    # Somebody changes the cluster by hand.
    kubectl("scale", "-n", namespace, "deployment/prod-l4", "--replicas=1")
    kubectl("delete", "-n", namespace, "service/prod-l4")
    [found] = findings(program, "objects")
    assert found["status"] == "warning"
    assert "Deployment prod-l4: kubectl changed spec.replicas at" in found["seen"]
    assert "Service prod-l4 is not in the cluster" in found["seen"]
    assert "fleet deploy --refresh -s prod" in found["remedy"]
    repaired = program.up("--refresh").check()
    [found] = findings(program, "objects")
    assert found["status"] == "ok", found
    assert changed(repaired) == {"l4-deployment", "l4-service"}
    assert "service/prod-l4" in names(namespace)

    program.destroy().check()
    # The cluster deletes a Deployment after its pods.
    assert until(lambda: not {each for each in names(namespace) if not each.startswith("pod/")})
    assert not watching or not names(namespace, watching)
