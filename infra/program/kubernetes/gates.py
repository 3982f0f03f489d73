"""The hooks of the gates: they hold an update until a pool's changed pods are found good."""

import asyncio

import pulumi

from infra.kubernetes import labels, pool
from infra.kubernetes.gates import REVISION
from infra.stack import Stack, roles
from infra.update.cluster.gates import Bad, Gate, Gates
from infra.update.cluster.kubectl import Kubectl


class GateHooks:
    """The hook of all gates of an update of a stack."""

    def __init__(self, kubectl: Kubectl, stack: Stack) -> None:
        self._stack = stack
        self._tasks = roles.by_node(stack)
        nodes = labels.of_nodes(stack)
        self._gates = Gates(kubectl, stack.rollout, nodes, dict(self._tasks), pulumi.log.info)
        hold = pulumi.ResourceHook(f"gate@{stack.name}", self._hold)
        #: For the resource of a gate.
        self.before = pulumi.ResourceHookBinding(before_create=[hold], before_update=[hold])

    async def _hold(self, args: pulumi.ResourceHookArgs) -> None:
        assert args.new_inputs is not None
        labelled, data = args.new_inputs["metadata"]["labels"], args.new_inputs["data"]
        try:
            gate = self._gate(labelled[labels.POOL], labelled[labels.TRACK], data[REVISION])
            await asyncio.to_thread(self._gates.hold, gate)
        except Bad as error:
            raise RuntimeError(str(error)) from None

    def _gate(self, name: str, track: str, revision: str) -> Gate:
        stack = self._stack
        [own] = [each for each in stack.pools if each.name == name]
        return Gate(
            pool=name,
            deployment=pool.deployment_name(stack, own, track),
            selecting=labels.of_track(stack, own, track),
            revision=revision,
            tasks=self._tasks[name],
            first=track == pool.tracks(stack, own)[0],
            seconds=pool.rollout_seconds(stack, own),
        )
