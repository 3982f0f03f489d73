"""A namespace of the restricted Pod Security level for each test, and a machine with GPUs for all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e_kubernetes.machine import Api, Machine, api

_GPUS = 8


def pytest_sessionstart(session: pytest.Session) -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.exit("e2e-kubernetes needs a cluster for tests: KUBECONFIG is not set", returncode=0)
    if shutil.which("kubectl") is None:
        pytest.exit("e2e-kubernetes needs kubectl", returncode=3)


def kubectl(*arguments: str, given: Any = None) -> str:
    """Runs kubectl; returns its output. Raises AssertionError with its error."""
    text = None if given is None else json.dumps(given)
    done = subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def cluster() -> Iterator[Api]:
    with api() as reached:
        yield reached


@pytest.fixture(scope="session")
def kinds() -> set[str]:
    """The kinds of objects that the cluster knows: of custom resources those whose operators are there."""
    lines = kubectl("api-resources", "--no-headers").splitlines()
    return {line.split()[-1] for line in lines}


@pytest.fixture(scope="session")
def machine(cluster: Api) -> Iterator[Machine]:
    with Machine(cluster, f"gpu-inference-e2e-{uuid.uuid4().hex[:8]}", _GPUS) as made:
        yield made


@pytest.fixture
def namespace(cluster: Api) -> Iterator[str]:
    name = f"gpu-inference-e2e-{uuid.uuid4().hex[:8]}"
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl("create", "-f", "-", given=_namespace(name, level))
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def claim(namespace: str) -> Iterator[None]:
    """The claim of the stacks' models, with a volume of its own. The scheduler places no pod without it."""
    size = {"storage": "1Gi"}
    spec: dict[str, Any] = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            **spec,
            "capacity": size,
            "hostPath": {"path": "/models"},
            "claimRef": {"namespace": namespace, "name": "models"},
        },
    }
    made = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "models", "namespace": namespace},
        "spec": {**spec, "volumeName": namespace, "resources": {"requests": size}},
    }
    kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": [volume, made]})
    yield
    kubectl("delete", "persistentvolume", namespace, "--wait=false")


def _namespace(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
