"""A stack as Pulumi resources: hosts, nodes in their rollout order, the gateway over them."""

import gc
import uuid
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command

from infra import node_health
from infra.connection import HERE, Connection, portable
from infra.gateway.plan import GatewayPlan, gateway_plan
from infra.program import model_kinds, outputs, secrets, triton_release
from infra.program.command import step
from infra.program.embedded import EmbeddedGateway, EmbeddedGatewayArgs, EmbeddedNode, EmbeddedNodeArgs
from infra.program.gateway import Gateway, GatewayArgs
from infra.program.host import Host, HostArgs, label_of, machine_of
from infra.program.images import Images
from infra.program.kept import keep
from infra.program.node import Node, NodeArgs, PreparedNode, PreparedNodeArgs
from infra.program.rollout import Finished, batches
from infra.program.trials import TrialHooks
from infra.program.turns import TurnHooks
from infra.program.way_back import WayBackHooks
from infra.stack import EmbeddedHost, Stack
from infra.stack import Host as Address
from infra.steps import models
from infra.steps.readiness import Reload
from infra.steps.traffic import Traffic
from infra.update.prepare import Away
from infra.update.trials import Trials
from infra.update.turns import Entrance, Turns
from infra.update.way_back import WayBack


@dataclass(frozen=True)
class FleetArgs:
    """The fleet's settings, the hosts that cannot be reached and stay as they are, and the names of the nodes
    that do not answer."""

    stack: Stack
    away: Away = Away()  # noqa: RUF009 (it is immutable)
    sick: frozenset[str] = frozenset()


class Fleet(pulumi.ComponentResource):
    """All nodes, the gateway over them, and their hosts. `outputs` are the stack's outputs."""

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-inference:index:Fleet", name, None, secrets.inside(opts, args.stack.secrets))
        # All that is declared stays until the program ends. With the default thresholds, the collector
        # searches it again and again: 3.1 s instead of 2.2 s of processor time for 64 nodes.
        gc.set_threshold(100_000, 20, 100)
        self._stack, self._away, self._sick = args.stack, args.away, args.sick
        self._inside = pulumi.ResourceOptions(parent=self)
        self._hosts: dict[Address, Host] = {}
        for warning in (model_kinds.warning(args.stack), triton_release.warning(args.stack)):
            if warning is not None:
                pulumi.log.warn(warning)
        keep(args.stack, args.away, self)
        plan = gateway_plan(args.stack, set(args.away.nodes))
        prepared = self._prepare()
        traffic = self._put_back(prepared, plan)
        healthy = self._roll_out(prepared, plan, traffic)
        self._gateway(plan, healthy, traffic)
        versions = {node: each.models.versions for node, each in prepared.items()}
        told = outputs.of(args.stack, plan.url, self._images.tags, versions, set(args.away.nodes))
        self.outputs: dict[str, Any] = secrets.concealed(told, args.stack.secrets)
        self.register_outputs(self.outputs)

    def _host(self, address: Address) -> Host:
        """A host, declared once however many nodes it has."""
        if address not in self._hosts:
            self._hosts[address] = Host(label_of(address), HostArgs(address, self._stack), self._inside)
        return self._hosts[address]

    def _prepare(self) -> dict[str, PreparedNode]:
        """Prepares the nodes on all Docker hosts that can be reached."""
        stack = self._stack
        near = [node for node in stack.nodes if not node.embedded and node.host not in self._away.hosts]
        self._images = Images(stack, self._host(near[0].host) if stack.images.registry and near else None)
        return {
            node.name: PreparedNode(
                node.name, PreparedNodeArgs(stack, node, self._host(node.host), self._images), self._inside
            )
            for node in near
        }

    def _put_back(self, prepared: dict[str, PreparedNode], plan: GatewayPlan) -> command.local.Command | None:
        """Declares the step that puts nodes back behind the gateway, before the first node changes.

        None where the gateway's host is away, or the gateway a process on this computer.
        """
        gateway = self._stack.gateway.host
        if plan.live is None or gateway in self._away.hosts:
            return None
        traffic = Traffic(
            gateway=Connection.to(gateway, self._stack.ssh),
            file=plan.live,
            reload=plan.reload,
            nodes=tuple(
                each.address for name, each in prepared.items() if not self._stack.node(name).drained
            ),
        )
        needs = [each for node in prepared.values() for each in node.resources]
        return command.local.Command(
            f"gateway-traffic@{machine_of(gateway)}",
            **step("infra.steps.traffic", "apply", traffic),
            opts=pulumi.ResourceOptions(parent=self, depends_on=needs),
        )

    def _roll_out(
        self, prepared: dict[str, PreparedNode], plan: GatewayPlan, traffic: pulumi.Resource | None
    ) -> list[pulumi.Resource]:
        """Declares the nodes in their batches; returns the resources that tell that the nodes are healthy."""
        rollout = self._stack.rollout
        # The first batch waits until everything is ready on every host; each later one only for the batch
        # before it, so that the number of dependencies grows with the fleet and not with its square.
        after: list[pulumi.Resource] = [each for node in prepared.values() for each in node.resources]
        if traffic is not None:
            after = [Finished(traffic)]
        healthy: list[pulumi.Resource] = []
        gateway = self._stack.gateway.host
        connection = HERE if isinstance(gateway, EmbeddedHost) else Connection.to(gateway, self._stack.ssh)
        reload = Reload(connection, plan.reload)
        entrance = self._entrance(plan)
        turns = self._turns(prepared, entrance)
        sickness = uuid.uuid4().hex[:8]
        # A host that is away tries nothing, so it is no canary. What does not answer has nothing to lose.
        nodes = [node for node in self._stack.nodes if node.embedded or node.name in prepared]
        nodes.sort(key=lambda node: node.name not in self._sick)
        way_back = self._way_back(prepared, turns)
        hooks = TurnHooks(turns, self._stack.name, way_back)
        canaries = frozenset(node.name for node in nodes[: rollout.canary])
        trials = self._trials(prepared, canaries, turns, entrance, way_back)
        for batch in batches(nodes, rollout):
            options = pulumi.ResourceOptions(parent=self, depends_on=after)
            ready: list[pulumi.Resource] = []
            for node in batch:
                if node.embedded:
                    embedded = EmbeddedNode(node.name, EmbeddedNodeArgs(self._stack, node), options)
                    ready.append(embedded.ready)
                else:
                    sick = sickness if node.name in self._sick else None
                    args = NodeArgs(prepared[node.name], reload, hooks, sick, trials, way_back)
                    ready.append(Node(node.name, args, options).done)
            after = [Finished(each) for each in ready]
            healthy += ready
        return healthy

    def _trials(
        self,
        prepared: dict[str, PreparedNode],
        canaries: frozenset[str],
        turns: Turns,
        entrance: Entrance | None,
        way_back: WayBackHooks | None,
    ) -> TrialHooks | None:
        """The hooks that try the nodes that have changed. They run in this program's own folder."""
        stack, ssh = self._stack, portable(self._stack.ssh)
        if stack.rollout.judge is None:
            return None
        nodes = {name: node_health.address(stack, stack.node(name), ssh) for name in prepared}
        reload = entrance.reload if entrance is not None else lambda: None
        trials = Trials(nodes, canaries, stack.rollout, turns, reload)
        return TrialHooks(trials, stack.name, way_back)

    def _way_back(self, prepared: dict[str, PreparedNode], turns: Turns) -> WayBackHooks | None:
        """The hooks that put back what nodes ran before an update that failed."""
        stack, ssh = self._stack, portable(self._stack.ssh)
        if stack.rollout.on_failure == "stop":
            return None
        nodes = {name: node_health.address(stack, stack.node(name), ssh) for name in prepared}
        folders = {name: each.models.root for name, each in prepared.items() if each.models.synced}

        def switch(name: str, versions: dict[str, str]) -> None:
            models.activate(prepared[name].models.in_use(nodes[name].connection, versions))

        way_back = WayBack(nodes, folders, switch, turns, stack.rollout.ready_timeout_seconds)
        return WayBackHooks(way_back, stack.name)

    def _entrance(self, plan: GatewayPlan) -> Entrance | None:
        """The gateway as hooks reach it; None where its host is away, or it is a process on this computer."""
        gateway = self._stack.gateway.host
        if plan.live is None or gateway in self._away.hosts:
            return None
        return Entrance(Connection.to(gateway, portable(self._stack.ssh)), plan.live, plan.reload)

    def _turns(self, prepared: dict[str, PreparedNode], entrance: Entrance | None) -> Turns:
        """What decides when a node may be taken down, in hooks that run in this program's own folder."""
        stack, ssh = self._stack, portable(self._stack.ssh)
        serving = [node for node in stack.nodes if not node.drained and not node.embedded]
        reached = {
            node.name: node_health.address(stack, node, ssh) for node in serving if node.name in prepared
        }
        away = frozenset(node.name for node in serving if node.name not in prepared)
        return Turns(reached, away, stack.rollout, entrance)

    def _gateway(
        self, plan: GatewayPlan, healthy: list[pulumi.Resource], traffic: command.local.Command | None
    ) -> None:
        stack, away = self._stack, self._away
        options = pulumi.ResourceOptions(parent=self, depends_on=healthy)
        if plan.configuration is None:
            EmbeddedGateway("gateway", EmbeddedGatewayArgs(stack, plan.url, set(away.nodes)), options)
        elif stack.gateway.host not in away.hosts:
            written = [] if traffic is None else [traffic.stdout]
            args = GatewayArgs(
                stack, self._host(stack.gateway.host), plan.url, plan.configuration, written_by=written
            )
            Gateway("gateway", args, options)
