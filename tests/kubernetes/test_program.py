"""The program of a stack in a cluster declares exactly the objects, and a stack on hosts none of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from infra.kubernetes.objects import objects
from infra.paths import PACKAGE
from tests.infra.declared import Fleet
from tests.kubernetes.declared import declare
from tests.kubernetes.stacks import BASE, KEDA, OWN, STACKS, stack

CUSTOM = "kubernetes:apiextensions.k8s.io"


def declared(fleet: Fleet) -> list[dict[str, Any]]:
    return [each.inputs for each in fleet.resources.values() if each.type.startswith("kubernetes:")]


@pytest.mark.parametrize("name", STACKS)
def test_the_program_declares_every_object_as_it_is(name: str) -> None:
    def key(each: dict[str, Any]) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    fleet = declare(STACKS[name])
    assert sorted(declared(fleet), key=key) == sorted(objects(stack(STACKS[name])), key=key)
    cluster = {each.provider for each in fleet.resources.values() if each.type.startswith("kubernetes:")}
    assert cluster == {"cluster"}


@pytest.mark.parametrize("name", STACKS)
def test_secrets_are_encrypted_in_the_state(name: str) -> None:
    fleet = declare(STACKS[name])
    for each in fleet.resources.values():
        assert ("stringData" in each.secrets) == each.type.endswith(":Secret")
        for secret in ("example-key-1", "example-password", "example-token", "example-id"):
            assert secret not in each.in_clear, each.name


@pytest.mark.parametrize(
    "config",
    [
        {"triton": {"image": "registry.example.com/gpu/triton:1", "env": {"TOKEN": "planted7"}}},
        {"triton": {"image": "registry.example.com/gpu/triton:1", "extraArgs": ["--token=planted7"]}},
        {"service": {"image": "registry.example.com/gpu/service:1", "env": {"TOKEN": "planted7"}}},
        {"service": {"image": "registry.example.com/planted7/service:1"}},
        {"service": {**BASE["service"], "config": {"ai": {"models": {"asr": {"model_name": "planted7"}}}}}},
        {"models": {"source": "s3://planted7/models"}},
        {"gateway": {"publicHost": "planted7.example.com"}, "kubernetes": {"ingress": {}}},
        {"cors": {"origins": ["https://planted7.example.com"]}},
        {"nodes": [{"name": "l4", "selector": {"site": "planted7"}}]},
        {"kubernetes": {"service": {"annotations": {"token": "planted7"}}}},
        {"kubernetes": {"context": "planted7"}},
    ],
)
def test_what_was_encrypted_in_the_file_is_encrypted_in_the_state(config: dict[str, Any]) -> None:
    fleet = declare(config, "planted7")
    assert [each.name for each in fleet.resources.values() if "planted7" in each.in_clear] == []
    assert not [told for told in fleet.told if "planted7" in told]
    assert "planted7" in json.dumps([each.inputs for each in fleet.resources.values()])


def test_the_provider_is_that_of_the_stacks_cluster() -> None:
    kubernetes = {"context": "gpu-cluster", "kubeconfig": "example-kubeconfig", "namespace": "speech"}
    cluster = declare({"kubernetes": kubernetes})["cluster"]
    assert cluster.inputs["context"] == "gpu-cluster"
    assert cluster.inputs["namespace"] == "speech"
    assert "example-kubeconfig" not in cluster.in_clear


def test_pods_need_their_secret_and_the_gateway_comes_after_the_pools() -> None:
    two = {"nodes": [{"name": "a"}, {"name": "b"}], "apiKeys": ["example-key-1"]}
    fleet = declare(two)
    [settings] = [name for name in fleet.resources if name.startswith("a-settings-")]
    assert settings in fleet["a-deployment"].needs
    assert "a-good-configmap" in fleet.after("b-deployment"), "one pool after the other"
    gateway = fleet.after("gateway-deployment")
    assert {"a-good-configmap", "b-good-configmap"} <= gateway
    own = [name for name in fleet.resources if re.match("gateway-([0-9a-f]{10}-configmap|keys-)", name)]
    assert len(own) == 2
    assert set(own) <= fleet["gateway-deployment"].needs


def test_the_canaries_are_found_good_before_the_other_pods_change() -> None:
    fleet = declare({"nodes": [{"name": "a", "replicas": 3}]})
    assert fleet["a-canary-deployment"].inputs["spec"]["replicas"] == 1
    assert fleet["a-deployment"].inputs["spec"]["replicas"] == 2
    assert "a-canary-deployment" in fleet["a-canary-good-configmap"].needs
    assert "a-canary-good-configmap" in fleet.after("a-deployment")
    assert "a-deployment" in fleet["a-good-configmap"].needs


def test_an_autoscaler_comes_after_its_deployment_which_says_no_number() -> None:
    fleet = declare({"nodes": [{"name": "a", "autoscale": {"max": 4}}, {"name": "b", "autoscale": KEDA}]})
    assert "replicas" not in fleet["a-deployment"].inputs["spec"]
    assert "a-deployment" in fleet.after("a-horizontalpodautoscaler")
    assert "b-deployment" in fleet.after("b-scaledobject")


def test_an_image_that_is_built_is_pushed_before_pods_need_it() -> None:
    fleet = declare(OWN)
    image = fleet["service-image"]
    assert image.inputs["imageName"].startswith("registry.example.com/gpu/service:")
    assert not image.inputs.get("skipPush")
    assert "service-image" in fleet.after("l4-deployment")
    service = fleet["l4-deployment"].inputs["spec"]["template"]["spec"]["containers"][0]
    assert service["image"] == image.inputs["imageName"]


def test_the_outputs_name_the_entrance_and_the_pools() -> None:
    outputs = declare(STACKS["ingress"]).outputs
    assert outputs["gateway"] == {"http": "https://ai.example.com", "grpc": "grpc.example.com:443"}
    assert outputs["nodes"]["l4"]["pods"] == {"least": 2, "most": 2}


def test_a_stack_on_hosts_loads_nothing_of_kubernetes() -> None:
    script = """
import sys
import infra.program.fleet, infra.update.prepare, infra.stack
print(*sorted(name for name in sys.modules if "kubernetes" in name and not name.startswith("infra.stack.")))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=PACKAGE
    )
    assert loaded.stdout.split() == []
