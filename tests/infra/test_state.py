"""What is in a stack's state is told by type and name."""

from __future__ import annotations

import pulumi_docker as docker

from infra.state import Deployed

URN = (
    "urn:pulumi:prod::gpu-inference::gpu-inference:index:Node$docker:index/container:Container::gpu-1-service"
)


def test_a_resource_is_found_by_its_type_and_name_under_any_parent() -> None:
    deployed = Deployed({"resources": [{"urn": URN}]})
    assert deployed.has(docker.Container, "gpu-1-service")
    assert not deployed.has(docker.Container, "gpu-2-service")
    assert not deployed.has(docker.Network, "gpu-1-service")


def test_nothing_is_in_a_state_that_was_never_written() -> None:
    assert not Deployed({}).has(docker.Container, "gpu-1-service")
