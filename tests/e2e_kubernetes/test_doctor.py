"""The doctor finds what is wrong with a stack in a cluster, and what it says to do helps."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.doctor.cli import main
from infra.kubernetes.objects import objects
from infra.stack import Stack
from tests.e2e_kubernetes import kubelet
from tests.e2e_kubernetes.conftest import kubectl
from tests.e2e_kubernetes.machine import Api, Machine, now
from tests.kubernetes.stacks import BASE, EDGE, STACKS, stack
from tests.kubernetes.test_objects import CUSTOM

Finding = dict[str, Any]
#: An autoscaler looks every 15 s, and first some 30 s after it was made.
_SECONDS = 120


class Fleet:
    """A stack's file, its objects in the cluster, and the doctor on it."""

    def __init__(self, folder: Path, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.namespace, self._file, self._capsys = namespace, folder / "Pulumi.prod.yaml", capsys
        self.config: dict[str, Any] = {}
        self.file({})

    def file(self, config: dict[str, Any]) -> Stack:
        """Writes the stack file with these keys over the smallest stack's."""
        kubernetes = {"service": {"type": "NodePort"}, **config.get("kubernetes", {})}
        self.config = copy.deepcopy({**BASE, **config})
        self.config["kubernetes"] = {**kubernetes, "namespace": self.namespace}
        keys = {f"gpu-inference:{key}": value for key, value in self.config.items()}
        self._file.write_text(yaml.safe_dump({"config": keys}))
        return stack(self.config)

    def deploy(self, config: dict[str, Any] | None = None) -> None:
        """Puts the stack's objects into the cluster, as an update does."""
        loaded = stack(self.config) if config is None else self.file(config)
        made = [each for each in objects(loaded) if each["kind"] not in CUSTOM]
        listed = {"apiVersion": "v1", "kind": "List", "items": made}
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=listed)

    def doctor(self, *arguments: str) -> list[Finding]:
        """The findings."""
        self._capsys.readouterr()
        status = main(["--file", str(self._file), "--json", *arguments])
        found: list[Finding] = json.loads(self._capsys.readouterr().out)["findings"]
        assert status == int(any(each["status"] != "ok" for each in found))
        return found

    def finding(self, where: str, check: str, status: str = "problem", says: str = "") -> Finding:
        """The finding of a check, once it has that status and says that: controllers take their time."""
        end = time.monotonic() + _SECONDS
        while True:
            [found] = [each for each in self.doctor() if each["where"] == [where] and each["check"] == check]
            if found["status"] == status and says in found["seen"]:
                return found
            assert time.monotonic() < end, found
            time.sleep(0.5)

    def run_remedy(self, finding: Finding, **named: str) -> None:
        """Runs the commands of kubectl in a finding's remedy, as a person pastes them."""
        lines = [line for text in re.split(", then |; ", finding["remedy"]) for line in text.splitlines()]
        commands = [line for line in lines if line.startswith(("kubectl ", "echo "))]
        assert commands, finding
        for command in commands:
            for name, value in named.items():
                command = command.replace(name, value)
            done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (command, done.stderr)


@pytest.fixture
def fleet(tmp_path: Path, namespace: str, machine: Machine, capsys: pytest.CaptureFixture[str]) -> Fleet:
    return Fleet(tmp_path, namespace, capsys)


@pytest.fixture
def deployed(fleet: Fleet, claim: None) -> Fleet:
    fleet.deploy()
    return fleet


def test_a_stack_that_is_well_has_no_finding(deployed: Fleet) -> None:
    deployed.finding("l4", "deployment", "ok")
    deployed.finding("gateway", "endpoints", "ok")
    assert [each for each in deployed.doctor() if each["status"] != "ok"] == []


def test_a_stack_that_is_not_deployed_is_one_finding(fleet: Fleet) -> None:
    wrong = [each for each in fleet.doctor() if each["status"] == "problem"]
    assert [each["check"] for each in wrong] == ["objects"]
    assert wrong[0]["remedy"].startswith("fleet deploy -s prod")


def test_a_quota_that_refuses_pods_is_named_and_raised(fleet: Fleet, claim: None) -> None:
    hard = {"requests.nvidia.com/gpu": "1", "limits.memory": "40Gi"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": hard}}
    kubectl("create", "-n", fleet.namespace, "-f", "-", given=quota)
    fleet.deploy(
        {"triton": {**BASE["triton"], "memory": "8g"}, "service": {**BASE["service"], "memory": "2g"}}
    )
    found = fleet.finding("l4", "refused pods")
    assert "exceeded quota: few, requested: requests.nvidia.com/gpu=1" in found["seen"]
    fleet.run_remedy(found)
    fleet.finding("l4", "refused pods", "ok")
    fleet.finding("l4", "deployment", "ok")


def test_pods_that_pod_security_refuses_come_after_the_remedy(fleet: Fleet, claim: None) -> None:
    edge: dict[str, Any] = copy.deepcopy(EDGE)
    for part in edge["edgeLlm"].values():
        part.pop("user", None)
    fleet.deploy({**edge, "nodes": [{"name": "l4", "runtime": "edge-llm"}]})
    found = fleet.finding("l4", "refused pods")
    assert 'violates PodSecurity "restricted' in found["seen"]
    fleet.run_remedy(found)
    fleet.finding("l4", "refused pods", "ok")


def test_a_missing_service_account_is_made_by_the_remedy(fleet: Fleet, claim: None) -> None:
    fleet.deploy(STACKS["no GPU"])
    assert 'serviceaccount "reader" not found' in fleet.finding("l4", "refused pods")["seen"]
    fleet.run_remedy(fleet.finding("l4", "needed objects"))
    fleet.finding("l4", "refused pods", "ok")
    fleet.finding("l4", "needed objects", "ok")


def test_a_wrong_gpu_resource_is_told_with_those_that_exist(fleet: Fleet, claim: None) -> None:
    fleet.deploy({"kubernetes": {"gpuResource": "nvidia.com/mig-1g.10gb"}})
    found = fleet.finding("cluster", "gpu resource")
    assert (
        "no machine advertises nvidia.com/mig-1g.10gb; the machines have nvidia.com/gpu (8)" in found["seen"]
    )
    assert "Insufficient nvidia.com/mig-1g.10gb" in fleet.finding("l4", "machine")["seen"]
    assert "kubernetes.gpuResource: nvidia.com/gpu " in found["remedy"]
    fleet.deploy({"kubernetes": {"gpuResource": "nvidia.com/gpu"}})
    fleet.finding("cluster", "gpu resource", "ok")
    fleet.finding("l4", "machine", "ok")


def test_gpus_that_are_all_in_use_are_counted(fleet: Fleet, claim: None) -> None:
    fleet.deploy({"nodes": [{"name": "l4", "replicas": 9}]})
    waiting = fleet.finding("l4", "machine")
    assert "0/1 nodes are available: 1 Insufficient nvidia.com/gpu" in waiting["seen"]
    fleet.finding("cluster", "gpus", says="ask for 9 × nvidia.com/gpu and have 8; the machines have 8")
    fleet.deploy({"nodes": [{"name": "l4", "replicas": 8, "update": "replace"}]})
    fleet.finding("l4", "machine", "ok")
    fleet.finding("cluster", "gpus", "ok")


def test_a_cordoned_machine_takes_pods_after_the_remedy(fleet: Fleet, machine: Machine, claim: None) -> None:
    kubectl("cordon", machine.name)
    try:
        fleet.deploy()
        found = fleet.finding("l4", "machine")
        assert "were unschedulable" in found["seen"] or "untolerated taint" in found["seen"], found
        assert f"{machine.name} takes no new pods" in fleet.finding("cluster", "machines")["seen"]
        fleet.run_remedy(fleet.finding("cluster", "machines"))
        fleet.finding("l4", "machine", "ok")
    finally:
        kubectl("uncordon", machine.name)


def test_a_selector_that_no_machine_has_is_told(fleet: Fleet, machine: Machine, claim: None) -> None:
    fleet.deploy({"nodes": [{"name": "l4", "selector": {"gpu-inference/e2e-model": "L4"}}]})
    found = fleet.finding("l4", "machine")
    assert "didn't match Pod's node affinity/selector" in found["seen"]
    assert "none has the label gpu-inference/e2e-model" in found["seen"]
    kubectl("label", "node", machine.name, "gpu-inference/e2e-model=L4")
    fleet.finding("l4", "machine", "ok")


def test_a_missing_claim_is_made_by_the_remedy_and_then_lacks_a_volume(fleet: Fleet) -> None:
    fleet.deploy()
    found = fleet.finding("l4", "claims")
    assert 'persistentvolumeclaim "models" not found' in found["seen"]
    fleet.run_remedy(found)
    fleet.finding("l4", "claims", says="no persistent volumes available")


def test_a_claim_of_one_machine_is_a_warning(fleet: Fleet) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": fleet.namespace}
    size = {"storage": "1Gi"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": fleet.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "capacity": size,
            "hostPath": {"path": "/models"},
            "claimRef": {"namespace": fleet.namespace, "name": "models"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": fleet.namespace},
        "spec": {**spec, "resources": {"requests": size}},
    }
    kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": [volume, claim]})
    try:
        fleet.deploy()
        assert "allows ReadWriteOnce" in fleet.finding("l4", "claims", "warning")["seen"]
    finally:
        kubectl("delete", "persistentvolume", fleet.namespace, "--wait=false")


def test_a_deleted_secret_and_a_deleted_service_are_named(deployed: Fleet) -> None:
    deployed.finding("l4", "endpoints", "ok")
    secrets = kubectl("get", "secrets", "-n", deployed.namespace, "-o", "name").split()
    [secret] = [each for each in secrets if "-l4-settings-" in each]
    kubectl("delete", "-n", deployed.namespace, secret, "service/prod-l4")
    assert "Secret prod-l4-settings-" in deployed.finding("l4", "needed objects")["seen"]
    found = deployed.finding("l4", "endpoints")
    assert "the Service prod-l4 is not in the cluster" in found["seen"]
    assert found["remedy"] == "fleet deploy --refresh -s prod"
    assert (
        "Service prod-l4 is not in the cluster" in deployed.finding("cluster", "objects", "warning")["seen"]
    )
    deployed.deploy()
    deployed.finding("l4", "endpoints", "ok")


def test_a_service_that_selects_other_pods_leaves_ready_pods_out(deployed: Fleet) -> None:
    deployed.finding("l4", "endpoints", "ok")
    patch = json.dumps({"spec": {"selector": {"gpu-inference/pool": "other"}}})
    kubectl("patch", "-n", deployed.namespace, "service", "prod-l4", f"--patch={patch}")
    assert "ready, and not behind the Service prod-l4" in deployed.finding("l4", "endpoints")["seen"]
    deployed.deploy()
    deployed.finding("l4", "endpoints", "ok")


def test_a_load_balancer_without_an_address_is_a_problem(fleet: Fleet, claim: None) -> None:
    fleet.deploy({"kubernetes": {"service": {"type": "LoadBalancer"}}})
    found = fleet.finding("gateway", "address")
    assert "of type LoadBalancer has no address after" in found["seen"]
    fleet.deploy({"kubernetes": {"service": {"type": "NodePort"}}})
    fleet.finding("gateway", "address", "ok")


def test_an_autoscaler_without_metrics_says_so(fleet: Fleet, claim: None) -> None:
    fleet.deploy(STACKS["hpa"])
    found = fleet.finding("l4", "autoscaler")
    assert "unable to fetch metrics from custom metrics API" in found["seen"], found
    assert "ai_inferences_running" in found["remedy"]


def test_missing_extensions_are_named(fleet: Fleet, claim: None) -> None:
    keda = copy.deepcopy(STACKS["keda"])
    keda.pop("images", None)
    keda.pop("service", None)
    keda["kubernetes"] = {"monitoring": {"by": "operator"}}
    fleet.deploy(keda)
    assert "KEDA is not installed" in fleet.finding("l4", "autoscaler")["seen"]
    assert "PodMonitors of monitoring.coreos.com" in fleet.finding("cluster", "monitors")["seen"]


def certificate(folder: Path, days: int) -> None:
    """Writes a certificate for localhost that ends in so many days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ai.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    (folder / "CERTIFICATE.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "KEY.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def test_a_missing_certificate_and_an_expired_one_are_replaced_by_the_remedies(
    fleet: Fleet, claim: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fleet.deploy({"kubernetes": {"tls": {"secret": "ai-tls"}}, "gateway": {"publicHost": "ai.example.com"}})
    found = fleet.finding("gateway", "certificate")
    assert 'secrets "ai-tls" not found' in found["seen"]
    certificate(tmp_path, -2)
    fleet.run_remedy(fleet.finding("gateway", "needed objects"))
    found = fleet.finding("gateway", "certificate")
    assert "the certificate expired on" in found["seen"]
    certificate(tmp_path, 90)
    fleet.run_remedy(found)
    fleet.finding("gateway", "certificate", "ok")


NOT_FOUND = (
    'Back-off pulling image "registry.example.com/gpu/triton:1": ErrImagePull: rpc error: code = NotFound '
    'desc = failed to pull and unpack image "registry.example.com/gpu/triton:1": failed to resolve reference '
    '"registry.example.com/gpu/triton:1": registry.example.com/gpu/triton:1: not found'
)


@pytest.mark.parametrize(
    ("check", "ill", "seen", "remedy"),
    [
        (
            "images",
            kubelet.waiting("triton", "ImagePullBackOff", NOT_FOUND),
            "triton (2 pods): ImagePullBackOff: Back-off pulling image",
            "push registry.example.com/gpu/triton:1, or correct triton.image",
        ),
        (
            "containers",
            kubelet.crashing("triton", 137, "OOMKilled", 4),
            "CrashLoopBackOff, restarted 4 times, last after exit code 137, OOMKilled",
            "raise triton.memory",
        ),
        (
            "containers",
            kubelet.waiting("service", "CreateContainerConfigError", 'secret "prod-l4-settings" not found'),
            'service: CreateContainerConfigError: secret "prod-l4-settings" not found',
            "fleet deploy --refresh -s prod",
        ),
    ],
)
def test_containers_that_do_not_run_are_told_in_the_kubelets_words(
    deployed: Fleet, machine: Machine, check: str, ill: dict[str, Any], seen: str, remedy: str
) -> None:
    def report(pod: dict[str, Any], number: int) -> dict[str, Any]:
        return kubelet.status(pod, number, ill)

    machine.reports[deployed.namespace] = report
    try:
        found = deployed.finding("l4", check)
        assert seen in found["seen"]
        assert remedy in found["remedy"]
        assert deployed.finding("l4", "endpoints", "skipped")["seen"] == "because of: deployment"
    finally:
        del machine.reports[deployed.namespace]
    deployed.finding("l4", check, "ok")


def test_a_startup_probe_that_fails_is_told_until_it_passes(
    deployed: Fleet, machine: Machine, cluster: Api
) -> None:
    def report(pod: dict[str, Any], number: int) -> dict[str, Any]:
        return kubelet.status(pod, number, kubelet.starting("triton"))

    machine.reports[deployed.namespace] = report
    try:
        pods = [each for each in cluster.pods(deployed.namespace) if "-l4-" in each["metadata"]["name"]]
        words = "Startup probe failed: HTTP probe failed with statuscode: 400"
        for pod in pods:
            kubectl("create", "-f", "-", given=kubelet.event(pod, "triton", "Unhealthy", words))
        found = deployed.finding("l4", "probes")
        assert f"triton: {words} (12 times" in found["seen"]
        assert "fleet logs l4 -s prod --part triton" in found["remedy"]
    finally:
        del machine.reports[deployed.namespace]
    deployed.finding("l4", "probes", "ok")


@pytest.fixture
def unready(tmp_path: Path) -> Iterator[str]:
    """The address of a real service whose Triton does not run. The API server dials no loopback address."""
    address = "198.51.100.252"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    try:
        settings = {
            "server": {"host": address, "workers": 1},
            "ai": {"runtime": {"triton": {"endpoint": "http://127.0.0.1:1"}}},
        }
        file = tmp_path / "service.yaml"
        file.write_text(yaml.safe_dump(settings))
        service = subprocess.Popen([sys.executable, "-m", "inference_service", "--config", str(file)])
        try:
            yield address
        finally:
            service.terminate()
            service.wait()
    finally:
        subprocess.run(["ip", "address", "delete", f"{address}/32", "dev", "lo"], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="adds an address to this computer")
def test_a_pod_that_is_not_ready_tells_of_its_models_itself(
    deployed: Fleet, machine: Machine, unready: str
) -> None:
    def report(pod: dict[str, Any], number: int) -> dict[str, Any]:
        running = {"service": {"state": {"running": {"startedAt": now()}}, "started": True}}
        return kubelet.status(pod, number, running, unready)

    machine.reports[deployed.namespace] = report
    try:
        found = deployed.finding("l4", "models", says="Triton is not ready")
        assert "ai.runtime.triton.endpoint" in found["remedy"]
    finally:
        del machine.reports[deployed.namespace]
    deployed.finding("l4", "models", "ok")


def test_who_may_see_little_is_told_what_to_ask_for(
    deployed: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    namespace = deployed.namespace
    kubectl("create", "serviceaccount", "watcher", "-n", namespace)
    user = f"system:serviceaccount:{namespace}:watcher"
    token = kubectl("create", "token", "watcher", "-n", namespace).strip()
    kubeconfig = yaml.safe_load(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    kubeconfig["users"][0]["user"] = {"token": token}
    file = tmp_path / "watcher"
    file.write_text(yaml.safe_dump(kubeconfig))
    kubectl("create", "role", "pods", "-n", namespace, "--verb=list", "--resource=pods")
    kubectl("create", "rolebinding", "pods", "-n", namespace, "--role=pods", f"--user={user}")
    with monkeypatch.context() as changed:
        changed.setenv("KUBECONFIG", str(file))
        found = deployed.finding("cluster", "permissions", "warning")
        assert f'User "{user}" cannot list resource "deployments"' in found["seen"]
        assert f'User "{user}" cannot list resource "nodes"' in found["seen"]
    try:
        deployed.run_remedy(found, USER=user)
        with monkeypatch.context() as changed:
            changed.setenv("KUBECONFIG", str(file))
            deployed.finding("cluster", "permissions", "ok")
            deployed.finding("cluster", "gpu resource", "ok")
    finally:
        kubectl("delete", "clusterrole,clusterrolebinding", "prod-doctor")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[str]:
    """A context of the same kubeconfig whose API server does not answer."""
    kubeconfig = yaml.safe_load(kubectl("config", "view", "--raw", "--minify", "--flatten"))
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    file = tmp_path / "elsewhere"
    file.write_text(yaml.safe_dump(kubeconfig))
    yield str(file)


def test_a_cluster_that_cannot_be_asked_is_one_finding_in_kubectls_words(
    fleet: Fleet, elsewhere: str
) -> None:
    fleet.file({"kubernetes": {"context": "nowhere"}})
    [found] = [each for each in fleet.doctor() if each["status"] == "problem"]
    assert (found["check"], found["seen"]) == ("api server", 'error: context "nowhere" does not exist')
    assert "kubectl config get-contexts" in found["remedy"]
    # The kubeconfig may be in the stack file, as a path or whole.
    for kubeconfig in (elsewhere, Path(elsewhere).read_text()):
        fleet.file({"kubernetes": {"kubeconfig": kubeconfig}})
        [found] = [each for each in fleet.doctor() if each["status"] == "problem"]
        assert "127.0.0.1:1 was refused" in found["seen"]


def test_a_missing_namespace_is_made_by_the_remedy(fleet: Fleet) -> None:
    missing = f"{fleet.namespace}-2"
    fleet.namespace = missing
    fleet.file({})
    found = fleet.finding("cluster", "namespace")
    assert found["seen"] == f'namespaces "{missing}" not found'
    try:
        fleet.run_remedy(found)
        fleet.finding("cluster", "namespace", "ok")
    finally:
        kubectl("delete", "namespace", missing, "--wait=false")
