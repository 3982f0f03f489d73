"""`fleet status` and `fleet logs` of a stack in a cluster, from what the API says."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.cli import watch
from infra.cli.screen import Failed
from infra.kubernetes.kubectl import logs_command, objects_command
from infra.kubernetes.objects import objects
from infra.kubernetes.state import parts, why
from tests.infra.conftest import double as double
from tests.kubernetes.stacks import BASE, stack

pytestmark = pytest.mark.fast


def deployments(ready: int, **status: Any) -> list[dict[str, Any]]:
    found = [each for each in objects(stack({})) if each["kind"] == "Deployment"]
    return [
        each | {"status": {"readyReplicas": min(ready, each["spec"]["replicas"]), **status}} for each in found
    ]


def pod(**status: Any) -> dict[str, Any]:
    [_, l4, _] = deployments(0)
    template = l4["spec"]["template"]
    return {"kind": "Pod", "metadata": dict(template["metadata"]), "spec": template["spec"], "status": status}


def condition(kind: str, status: str, **further: str) -> dict[str, Any]:
    return {"type": kind, "status": status, **further}


def container(name: str, **state: Any) -> dict[str, Any]:
    return {"name": name, "ready": False, "state": state}


def test_a_part_is_healthy_when_all_its_pods_are_ready() -> None:
    assert [(each.name, each.state) for each in parts(stack({}), deployments(2))] == [
        ("l4", "healthy"),
        ("gateway", "healthy"),
    ]


def test_a_part_that_is_not_deployed_says_so() -> None:
    [l4, _] = parts(stack({}), [])
    assert l4.state == "down: 0 of 1 pods are ready; it is not in the cluster"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (
            {
                "conditions": [
                    condition("PodScheduled", "False", message="0/1 nodes: Insufficient nvidia.com/gpu.")
                ]
            },
            "0/1 nodes: Insufficient nvidia.com/gpu.",
        ),
        (
            {
                "containerStatuses": [
                    container("triton", waiting={"reason": "ImagePullBackOff", "message": "no"})
                ]
            },
            "triton: ImagePullBackOff no",
        ),
        (
            {
                "initContainerStatuses": [
                    container("triton", terminated={"exitCode": 137, "reason": "OOMKilled"})
                ]
            },
            "triton: ended with status 137 (OOMKilled)",
        ),
        (
            {"containerStatuses": [{**container("service", running={}), "started": False}]},
            "it starts",
        ),
        (
            {
                "conditions": [
                    condition("ContainersReady", "False", message="containers with unready status: [a]")
                ]
            },
            "containers with unready status: [a]",
        ),
        ({"containerStatuses": [container("a", waiting={"reason": "ContainerCreating"})]}, "it starts"),
        ({"conditions": [condition("Ready", "True")]}, None),
    ],
)
def test_a_pod_says_why_it_is_not_ready(status: dict[str, Any], reason: str | None) -> None:
    assert why(pod(**status)) == reason


def test_a_container_whose_startup_probe_has_not_passed_is_named() -> None:
    started = {**container("service", running={"startedAt": "2026-01-01T00:00:00Z"}), "started": False}
    assert why(pod(containerStatuses=[started])) == "service starts: its startup probe has not passed yet"


def test_equal_reasons_are_counted_and_refused_pods_are_told() -> None:
    waiting = pod(conditions=[condition("PodScheduled", "False", message="no GPU")])
    refused = condition("ReplicaFailure", "True", message="exceeded quota: q")
    [canary, others, entrance] = deployments(1, conditions=[refused])
    others["status"] = {"readyReplicas": 0}
    [l4, gateway] = parts(stack({}), [canary, others, entrance, waiting, waiting])
    assert l4.state == "unhealthy: 1 of 2 pods are ready; 2 × no GPU; exceeded quota: q"
    assert "no GPU" not in gateway.state


def test_the_commands_are_for_the_stacks_cluster_and_namespace() -> None:
    given = stack({"kubernetes": {"context": "gpu", "namespace": "speech"}})
    start = ["kubectl", "--context=gpu", "--namespace=speech"]
    assert objects_command(given)[:3] == start
    assert "--selector=app.kubernetes.io/instance=prod" in objects_command(given)
    logs = logs_command(given, "l4", "triton", 7, True)
    assert logs[:4] == [*start, "logs"]
    assert {"--container=triton", "--tail=7", "--follow"} <= set(logs)
    assert any(each.endswith("gpu-inference/pool=l4") for each in logs)
    assert "--container=nginx" in logs_command(given, "gateway", "service", 1, False)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:

    _configure(tmp_path, {})
    monkeypatch.setattr("infra.stack.files.PROJECT", tmp_path)
    return tmp_path


def _configure(folder: Path, config: dict[str, Any]) -> None:
    document = {f"gpu-inference:{key}": value for key, value in {**BASE, **config}.items()}
    (folder / "Pulumi.prod.yaml").write_text(yaml.safe_dump({"config": document}))


def test_status_shows_the_pools_as_the_cluster_tells_them(
    files: Path, double: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "answer.json").write_text(json.dumps({"items": deployments(2)}))
    double("kubectl", f"cat {files / 'answer.json'}")
    assert watch.status("prod") == 0
    shown = capsys.readouterr().out
    assert "l4" in shown and "healthy" in shown and "prod-l4.default.svc.cluster.local" in shown


def test_status_says_what_kubectl_says_when_the_cluster_does_not_answer(files: Path, double: Any) -> None:
    log = 'E0101 01:02:03.456789 588 memcache.go:265] "Unhandled Error"'
    double("kubectl", f"printf '%s\\n' '{log}' 'Unable to connect to the server' >&2; exit 1")
    with pytest.raises(Failed, match=r"tell: Unable to connect to the server$"):
        watch.status("prod")


def test_logs_are_those_of_all_pods_of_a_pool(files: Path, double: Any) -> None:
    calls = double("kubectl", "true")
    assert watch.logs("l4", "prod", "triton", 5, False) == 0
    assert "--container=triton" in calls.read_text()
    with pytest.raises(Failed, match="x: expected one of l4, gateway"):
        watch.logs("x", "prod")


@pytest.mark.parametrize("as_content", [False, True])
def test_status_and_logs_ask_the_cluster_of_the_stacks_kubeconfig(
    files: Path, double: Any, as_content: bool
) -> None:
    text = "apiVersion: v1\nkind: Config\n"
    path = files / "own"
    path.write_text(text)
    _configure(files, {"kubernetes": {"kubeconfig": text if as_content else str(path)}})
    seen = files / "seen"
    # What kubectl would read: its option counts before the variable.
    given = 'for each; do case "$each" in --kubeconfig=*) KUBECONFIG="${each#*=}";; esac; done'
    double("kubectl", f'{given}; cat "$KUBECONFIG" >>{seen}; echo \'{{"items": []}}\'')
    watch.status("prod")
    watch.logs("l4", "prod")
    assert seen.read_text() == text * 2
    assert not list(Path(tempfile.gettempdir()).glob("fleet-*/kubeconfig"))
