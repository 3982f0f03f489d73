"""Resources keep the URNs that they had before 0.1.0 as aliases, so that an update replaces no container."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.declared import declare

pytestmark = pytest.mark.fast

STACK = "urn:pulumi:prod::gpu-inference::"
COMMAND, CONTAINER = "command:local:Command", "docker:index/container:Container"
NODE = "gpu-inference:at-gpu-1-example-com-2222:Node"
GATEWAY = "gpu-inference:at-192-0-2-1:Gateway"
HOST = "gpu-inference:index:Host"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "asr" / "1").mkdir(parents=True)
    (tmp_path / "asr" / "config.pbtxt").write_text('name: "asr"\n')
    return tmp_path


def test_a_nodes_resources_have_their_former_urns_as_aliases(repository: Path) -> None:
    fleet = declare(
        {
            "nodes": [{"name": "gpu-1", "host": "ssh://root@GPU-1.example.com:2222"}],
            "models": {"source": "sync", "path": str(repository)},
            "gateway": {"host": "ssh://root@192.0.2.1"},
            "triton": {"build": True},
        }
    )
    assert {resource.aliases for resource in fleet.resources.values() if resource.aliases} == {
        (f"{STACK}{urn}",)
        for urn in (
            f"{HOST}$pulumi:providers:docker::root-gpu-1-example-com-2222-docker",
            f"{HOST}$pulumi:providers:docker::root-192-0-2-1-docker",
            f"{HOST}$docker:index/image:Image::root-gpu-1-example-com-2222-triton-image",
            f"{HOST}$docker:index/image:Image::root-gpu-1-example-com-2222-service-image",
            f"{NODE}$docker:index/network:Network::gpu-1-network",
            f"{NODE}$docker:index/volume:Volume::gpu-1-shm-1g",
            f"{NODE}$docker:index/volume:Volume::gpu-1-engines",
            f"{NODE}$gpu-inference:at-gpu-1-example-com-2222:Models${COMMAND}::gpu-1-model-asr",
            f"{NODE}$gpu-inference:at-gpu-1-example-com-2222:Models${COMMAND}::gpu-1-models-in-use",
            f"{NODE}${CONTAINER}::gpu-1-triton",
            f"{NODE}${CONTAINER}::gpu-1-service",
            f"{NODE}${COMMAND}::gpu-1-ready",
            f"{GATEWAY}${COMMAND}::gateway-config",
            f"{GATEWAY}$docker:index/network:Network::gateway-network",
            f"{GATEWAY}${CONTAINER}::gateway",
        )
    }


def test_embedded_processes_have_their_former_urns_as_aliases() -> None:
    fleet = declare({"nodes": [{"name": "dev-1", "host": "embedded"}], "gateway": {"mode": "embedded"}})
    assert {resource.aliases for resource in fleet.resources.values() if resource.aliases} == {
        (f"{STACK}gpu-inference:index:Node${COMMAND}::dev-1-processes",),
        (f"{STACK}gpu-inference:index:Gateway${COMMAND}::gateway-process",),
    }
