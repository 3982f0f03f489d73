"""The state tells resources apart by type and name, and by the parent's type, which names the machine."""

from __future__ import annotations

from typing import cast

import pulumi
import pulumi_docker as docker

from infra.update.state import Deployed

AT = "gpu-inference:at-192-0-2-10:Node"
URN = f"urn:pulumi:prod::gpu-inference::{AT}$docker:index/container:Container::gpu-1-service"


class Parent:
    """The part of a component that the state needs: its type."""

    def __init__(self, kind: str) -> None:
        self.pulumi_resource_type = kind


def has(kind: type[pulumi.Resource], name: str, parent: str) -> bool:
    deployed = Deployed({"resources": [{"urn": URN}]})
    return deployed.has(kind, name, cast(pulumi.Resource, Parent(parent)))


def test_a_resource_is_found_by_its_type_and_name_and_the_machine_that_it_is_on() -> None:
    assert has(docker.Container, "gpu-1-service", AT)
    assert not has(docker.Container, "gpu-2-service", AT)
    assert not has(docker.Network, "gpu-1-service", AT)
    assert not has(docker.Container, "gpu-1-service", "gpu-inference:at-192-0-2-11:Node")


def test_nothing_is_in_a_state_that_was_never_written() -> None:
    assert not Deployed({}).has(docker.Container, "gpu-1-service")
