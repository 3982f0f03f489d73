"""A stack in a cluster: its pools in their order, then the gateway over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra import names
from infra.kubernetes import autoscaling, entrance, gateway, images, labels, monitoring, policies, pool
from infra.kubernetes.gates import is_gate
from infra.kubernetes.labels import Manifest
from infra.program import secrets
from infra.program.kubernetes import images as built_images
from infra.program.kubernetes import outputs
from infra.program.kubernetes.gates import GateHooks
from infra.program.kubernetes.resources import declare, provider
from infra.stack import Stack, roles
from infra.stack.pools import Pool
from infra.update.cluster.kubectl import Kubectl
from infra.update.cluster.way_back import rolled_back

#: Seconds for the gateway's pods, which start within some.
_GATEWAY_SECONDS = 600


@dataclass(frozen=True)
class ClusterArgs:
    """The stack's settings, and what reaches its cluster.

    Without `kubectl` an update neither waits for pods nor judges them. `rolled_back` says when an update that
    failed put back a Deployment, by its name.
    """

    stack: Stack
    kubectl: Kubectl | None = None
    rolled_back: Mapping[str, str] = field(default_factory=dict)


def reached(stack: Stack) -> ClusterArgs:
    """A stack, and what an update needs to know of its cluster now. Raises ClusterError."""
    kubectl = Kubectl(stack)
    return ClusterArgs(stack, kubectl, rolled_back(kubectl, labels.of_stack(stack)))


class Cluster(pulumi.ComponentResource):
    """All pools of a stack and the gateway over them. `outputs` are the stack's outputs."""

    def __init__(self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-inference:index:Cluster", name, None, secrets.inside(opts, args.stack.secrets))
        stack = self.stack = args.stack
        for warning in roles.warnings(stack):
            pulumi.log.warn(warning)
        self._cluster = provider(stack, self)
        self._rolled_back = args.rolled_back
        self._gates = GateHooks(args.kubectl, stack) if args.kubectl is not None else None
        self._references = images.references(stack)
        logins = images.pull_secret(stack)
        self._pull = logins["metadata"]["name"] if logins is not None else None
        first: list[pulumi.Resource] = built_images.built(stack, self._references, self)
        first += self.declare(self, [*policies.objects(stack), *([logins] if logins else [])], ())
        after: list[pulumi.Resource] = first
        for each in stack.pools:
            # One pool after the other, as nodes on hosts: one that does not get ready stops the update.
            after = [Nodes(each.name, self, each, after).done]
        self._gateway([*first, *after])
        self.outputs: dict[str, Any] = secrets.concealed(outputs.of(stack, self._references), stack.secrets)
        self.register_outputs(self.outputs)

    def _gateway(self, after: Sequence[pulumi.Resource]) -> None:
        stack = self.stack
        parent = pulumi.ComponentResource(
            "gpu-inference:index:ClusterGateway", "gateway", None, pulumi.ResourceOptions(parent=self)
        )
        own = gateway.objects(stack, self._references, self._pull)
        declared = self.declare(parent, own, after, _GATEWAY_SECONDS)
        self.declare(parent, entrance.objects(stack), declared, _GATEWAY_SECONDS)
        # An alert about a gateway that is not up yet would be a false one.
        self.declare(self, monitoring.objects(stack), declared)
        parent.register_outputs({})

    def pool_objects(self, each: Pool) -> tuple[list[Manifest], list[Manifest]]:
        """A pool's objects, and the autoscaler of its Deployment."""
        made = pool.objects(self.stack, each, self._references, self._pull, self._rolled_back)
        return made, autoscaling.objects(self.stack, each)

    def declare(
        self,
        parent: pulumi.Resource,
        manifests: Sequence[Manifest],
        needs: Sequence[pulumi.Resource],
        seconds: int | None = None,
    ) -> list[pulumi.Resource]:
        """Declares objects; Deployments and gates come after the objects before them in the list."""
        declared: list[pulumi.Resource] = []
        for each in manifests:
            waits = each["kind"] == "Deployment" or is_gate(each)
            own = each["metadata"]["name"].removeprefix(names.service(self.stack.name, ""))
            declared.append(
                declare(
                    f"{own}-{each['kind'].lower()}",
                    each,
                    parent=parent,
                    provider=self._cluster,
                    needs=[*needs, *declared] if waits else needs,
                    seconds=seconds if waits else None,
                    hooks=self._gates.before if self._gates is not None and is_gate(each) else None,
                )
            )
        return declared


class Nodes(pulumi.ComponentResource):
    """The objects of one pool. When `done` is there, its pods are ready and the next pool may change."""

    def __init__(self, name: str, cluster: Cluster, each: Pool, after: Sequence[pulumi.Resource]) -> None:
        super().__init__("gpu-inference:index:Pool", name, None, pulumi.ResourceOptions(parent=cluster))
        made, scaled = cluster.pool_objects(each)
        declared = cluster.declare(self, made, after, pool.rollout_seconds(cluster.stack, each))
        [*_, self.done] = [
            resource for resource, manifest in zip(declared, made, strict=True) if is_gate(manifest)
        ]
        cluster.declare(self, scaled, [self.done])
        self.register_outputs({})
