"""A stack as Pulumi resources: hosts, nodes in their rollout order, the gateway over them."""

from __future__ import annotations

import gc
from typing import Any

import pulumi

from infra.connection import HERE
from infra.gateway.plan import gateway_plan
from infra.program import outputs
from infra.program.gateway import Gateway
from infra.program.host import DockerHost
from infra.program.images import Images
from infra.program.node import DockerNode, EmbeddedNode
from infra.program.rollout import Finished, batches
from infra.stack import EmbeddedHost, Host, Node, Stack
from infra.steps.readiness import Reload
from infra.update.prepare import Away


class Hosts:
    """The stack's Docker hosts, each declared once however many nodes it has."""

    def __init__(self, stack: Stack, away: Away) -> None:
        self._stack, self._away = stack, away
        self._made: dict[Host, DockerHost] = {}

    def __getitem__(self, host: Host) -> DockerHost:
        if host not in self._made:
            self._made[host] = DockerHost(host, self._stack, self._away.of(host))
        return self._made[host]


def declare(stack: Stack, away: Away) -> dict[str, Any]:
    """Declares all of the stack and returns its outputs.

    Resources on hosts that are `away` stay as they stand in the state, and their nodes get no traffic.
    """
    # What is declared stays until the program ends; looking through all of it for garbage as often as Python
    # does by default would take longer, the larger the fleet, than declaring it.
    gc.set_threshold(100_000, 20, 100)
    hosts = Hosts(stack, away)
    near = [node.host for node in stack.nodes if not node.embedded and node.host not in away.hosts]
    images = Images(stack, hosts[near[0]] if stack.images.registry and near else None)
    gateway_host = None if isinstance(stack.gateway.host, EmbeddedHost) else hosts[stack.gateway.host]
    plan = gateway_plan(stack, set(away.nodes))
    reload = Reload(gateway_host.connection if gateway_host else HERE, plan.reload)

    def node_of(node: Node) -> DockerNode | EmbeddedNode:
        if node.embedded:
            return EmbeddedNode(stack, node)
        return DockerNode(stack, node, hosts[node.host], images)

    nodes = {node.name: node_of(node) for node in stack.nodes}
    # The first batch waits until everything is ready on every host; each later one only for the batch before
    # it, so that the number of dependencies grows with the fleet and not with its square.
    after: list[pulumi.Resource | None] = [
        resource for node in nodes.values() for resource in node.prepared if resource is not None
    ]
    healthy: list[pulumi.Resource] = []
    for batch in batches(stack.nodes, stack.rollout):
        started = [nodes[node.name].start(after, reload) for node in batch]
        ready = [resource for resource in started if resource is not None]
        after = [Finished(resource) for resource in ready] or after
        healthy += ready
    gateway = Gateway(stack, plan, gateway_host, healthy, set(away.nodes))
    versions = {name: node.models.versions for name, node in nodes.items() if isinstance(node, DockerNode)}
    return outputs.of(stack, gateway.url, images.tags, versions, set(away.nodes))
