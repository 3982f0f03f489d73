"""Runs the program of a stack in a cluster without an engine, and keeps the resources that it declares."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.runtime.mocks import set_mocks

from infra.program.kubernetes.fleet import Cluster, ClusterArgs
from tests.infra.declared import Engine, Fleet, Monitor
from tests.kubernetes.stacks import stack


def declare(config: dict[str, Any], *secrets: str) -> Fleet:
    """The resources of the stack `prod` with these keys over the smallest one's, and its outputs; `secrets`
    are texts that were encrypted in its file."""
    fleet = Fleet()
    set_mocks(Engine(), project="gpu-inference", stack="prod", preview=True, monitor=Monitor(fleet))

    @pulumi.runtime.test
    def run() -> None:
        given = stack(config)
        given._secrets = secrets
        component = Cluster("prod", ClusterArgs(given))
        fleet.outputs = component.outputs
        for name, value in component.outputs.items():
            pulumi.export(name, value)

    run()
    return fleet
