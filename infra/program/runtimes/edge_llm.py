"""The Edge-LLM containers of a node: a unit manager and an llm node, on one host and with one /tmp."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pulumi_docker as docker

from infra import names, runtime_health
from infra.program.containers import gpu_requests, healthcheck
from infra.program.runtimes.base import Place
from infra.stack import EdgeLlmPart


def declare(place: Place) -> list[docker.Container]:
    """The unit manager as `unit-manager` on the node's network, then the llm node."""
    edge = place.stack.edge_llm
    tmp_name = names.tmp_volume(place.stack, place.node)
    tmp = place.host.declare(
        docker.Volume, f"{place.node.name}-tmp", parent=place.parent, needs=place.needs, name=tmp_name
    )
    shared = docker.ContainerMountArgs(type="volume", source=tmp_name, target="/tmp")
    unit_manager = _part(
        place,
        names.UNIT_MANAGER,
        edge.unit_manager,
        needs=[tmp],
        mounts=[shared],
        healthcheck=healthcheck(runtime_health.UNIT_MANAGER, start_seconds=30),
    )
    llm_node = _part(
        place,
        names.LLM_NODE,
        edge.llm_node,
        needs=[tmp, unit_manager],
        mounts=[shared, *place.prepared.models.mounts(edge.model_path)],
        device_requests=gpu_requests(place.node.gpus),
        # A new unit manager counts its sessions from the start again, and units that outlived the one before
        # would answer on numbers that it gives to others: both are replaced together.
        outlived_by=unit_manager,
        healthcheck=healthcheck(runtime_health.LLM_NODE, start_seconds=30),
    )
    return [unit_manager, llm_node]


def _part(
    place: Place, name: str, part: EdgeLlmPart, needs: Sequence[pulumi.Resource], **arguments: Any
) -> docker.Container:
    return place.prepared.container(
        name,
        parent=place.parent,
        needs=[*place.needs, *needs],
        env=part.env,
        memory=part.memory,
        command=part.command or None,
        user=part.user,
        writable=[] if part.read_only else None,
        **arguments,
    )
