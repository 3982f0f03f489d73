"""A namespace of the restricted Pod Security level for each test, and a machine with GPUs for all."""

from __future__ import annotations

import contextlib
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


def kubectl(*arguments: str, given: Any = None, seconds: float = 120) -> str:
    """Runs kubectl; returns its output. Raises AssertionError with its error."""
    text = None if given is None else json.dumps(given)
    done = subprocess.run(
        ["kubectl", *arguments], input=text, capture_output=True, text=True, timeout=seconds
    )
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


@pytest.fixture(scope="module")
def machine(cluster: Api) -> Iterator[Machine]:
    """The only machine that pods may come to, while a module's tests run."""
    real = kubectl("get", "nodes", "-o", "name").split()
    for each in real:
        kubectl("cordon", each)
    try:
        with Machine(cluster, f"gpu-inference-e2e-{uuid.uuid4().hex[:8]}", _GPUS) as made:
            yield made
    finally:
        for each in real:
            kubectl("uncordon", each)


@contextlib.contextmanager
def made_namespace() -> Iterator[str]:
    """A namespace of the restricted Pod Security level."""
    name = f"gpu-inference-e2e-{uuid.uuid4().hex[:8]}"
    level = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": name, "labels": level}
    kubectl("create", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false")


@contextlib.contextmanager
def volume_and_claim(namespace: str, folder: str) -> Iterator[None]:
    """The claim of the stacks' models, with a volume of its own: a folder of the machines."""
    size = {"storage": "1Gi"}
    spec: dict[str, Any] = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": namespace},
        "spec": {
            **spec,
            "capacity": size,
            "hostPath": {"path": folder},
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
    try:
        yield
    finally:
        kubectl("delete", "persistentvolume", namespace, "--wait=false")


@pytest.fixture
def namespace(cluster: Api) -> Iterator[str]:
    with made_namespace() as name:
        yield name


@pytest.fixture
def claim(namespace: str) -> Iterator[None]:
    """The scheduler places no pod without its claim."""
    with volume_and_claim(namespace, "/models"):
        yield
