"""A real API server takes the objects of every stack, and its controllers and scheduler place their pods."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.kubernetes.objects import objects
from tests.e2e_kubernetes.conftest import kubectl
from tests.e2e_kubernetes.machine import Api, Machine
from tests.kubernetes.stacks import STACKS, stack
from tests.kubernetes.test_objects import CUSTOM


@pytest.fixture(scope="module", autouse=True)
def runtime_class() -> Iterator[None]:
    """The RuntimeClass that one of the stacks names, as NVIDIA's operator makes it."""
    made = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}}
    kubectl("apply", "--server-side", "-f", "-", given={**made, "handler": "nvidia"})
    yield
    kubectl("delete", "runtimeclass", "nvidia")


def manifests(name: str, namespace: str, kinds: set[str]) -> list[dict[str, Any]]:
    """The objects of a stack, of custom resources those that the cluster knows."""
    config = copy.deepcopy(STACKS[name])
    config.setdefault("kubernetes", {})["namespace"] = namespace
    # Ports of machines are the whole cluster's.
    config["kubernetes"].get("service", {}).pop("nodePorts", None)
    return [each for each in objects(stack(config)) if each["kind"] in kinds or each["kind"] not in CUSTOM]


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    end = time.monotonic() + seconds
    while not (done := true()) and time.monotonic() < end:
        time.sleep(0.5)
    return done


@pytest.mark.parametrize("name", STACKS)
def test_the_api_server_takes_every_object_and_its_admission_every_pod(
    cluster: Api, namespace: str, kinds: set[str], name: str
) -> None:
    made = manifests(name, namespace, kinds)
    kubectl("create", "serviceaccount", "reader", "-n", namespace)
    listed = {"apiVersion": "v1", "kind": "List", "items": made}
    # strict: a key that the API server does not know is an error, and not left out.
    kubectl("apply", "--server-side", "--validate=strict", "-f", "-", given=listed)
    # Pod Security refuses pods, not Deployments: each one's first revision has its pods.
    wanted = sum(each["spec"].get("replicas", 1) for each in made if each["kind"] == "Deployment")
    assert until(lambda: len(cluster.pods(namespace)) == wanted)
    kubectl("apply", "--server-side", "-f", "-", given=listed)


def test_pods_are_placed_where_gpus_are_free_and_the_next_waits_with_the_schedulers_words(
    cluster: Api, machine: Machine, namespace: str, kinds: set[str], claim: None
) -> None:
    made = manifests("smallest", namespace, kinds)
    for each in made:
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "prod-l4":
            each["spec"]["replicas"] = 8  # and the canary
    kubectl("apply", "--server-side", "-f", "-", given={"apiVersion": "v1", "kind": "List", "items": made})

    def placed() -> list[bool]:
        nodes = [each for each in cluster.pods(namespace) if "-l4-" in each["metadata"]["name"]]
        return [each["spec"].get("nodeName") == machine.name for each in nodes]

    assert until(lambda: len(placed()) == 9 and sum(placed()) == 8), placed()
    [waiting] = [
        each
        for each in cluster.pods(namespace)
        if "-l4-" in each["metadata"]["name"] and "nodeName" not in each["spec"]
    ]
    assert until(
        lambda: (
            "Insufficient nvidia.com/gpu"
            in kubectl("describe", "pod", "-n", namespace, waiting["metadata"]["name"])
        )
    )
