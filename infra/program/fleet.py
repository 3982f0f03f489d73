"""A stack as Pulumi resources: hosts, nodes in their rollout order, the gateway over them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command

from infra import names, node_health
from infra.connection import Connection, portable
from infra.gateway.entrance import upstreams
from infra.gateway.plan import GatewayPlan, gateway_plan
from infra.gateway.render import FAILURE_SECONDS
from infra.image_references import service_source
from infra.program import outputs, sdk, secrets, warnings
from infra.program.authority import Authority
from infra.program.command import step
from infra.program.embedded import (
    EmbeddedGateway,
    EmbeddedGatewayArgs,
    EmbeddedNode,
    EmbeddedNodeArgs,
    putting_back,
)
from infra.program.gateway import Gateway, GatewayArgs
from infra.program.host import Host, HostArgs, label_of
from infra.program.images import HostImage, Images
from infra.program.kept import keep
from infra.program.monitoring import Monitoring, MonitoringArgs
from infra.program.node import Node, NodeArgs, PreparedNode, PreparedNodeArgs
from infra.program.rollout import Finished, batches
from infra.program.trials import TrialHooks
from infra.program.turns import TurnHooks
from infra.program.way_back import WayBackHooks
from infra.stack import EmbeddedHost, Stack, roles
from infra.stack import Host as Address
from infra.stack.hosts import machine_of
from infra.steps import models as model_steps
from infra.steps.traffic import Traffic
from infra.update.moves import Moves
from infra.update.prepare import Away
from infra.update.trials import Trials
from infra.update.turns import Entrance, Entrances, Turns
from infra.update.way_back import WayBack
from infra.update.written import Written


@dataclass(frozen=True)
class FleetArgs:
    """The fleet's settings, the hosts that cannot be reached and stay as they are, the names of the nodes
    that do not answer, and what is not on the hosts as steps wrote it. `hosts_first`: only the
    hosts of nodes are declared, until somebody calls `declare`."""

    stack: Stack
    away: Away = Away()  # noqa: RUF009 (it is immutable)
    sick: frozenset[str] = frozenset()
    written: Written = field(default_factory=Written)
    hosts_first: bool = False


class Fleet(pulumi.ComponentResource):
    """All nodes, the gateway over them, and their hosts. `outputs` are the stack's outputs."""

    def __init__(self, name: str, args: FleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-inference:index:Fleet", name, None, secrets.inside(opts, args.stack.secrets))
        sdk.collect_rarely()
        self._stack = args.stack
        self._inside = pulumi.ResourceOptions(parent=self)
        self._hosts: dict[Address, Host] = {}
        if not args.hosts_first:
            self.declare(args)
            return
        for node in args.stack.nodes:
            if not node.embedded:
                self._host(node.host)

    def declare(self, args: FleetArgs) -> None:
        """Declares all that is not declared yet."""
        self._away, self._sick, self._written = args.away, args.sick, args.written
        warnings.tell(args.stack)
        keep(args.stack, args.away, self)
        serves_tls = args.stack.serves_tls and any(not node.embedded for node in args.stack.nodes)
        self._authority = Authority(args.stack, self) if serves_tls else None
        self._plans = [(each, gateway_plan(each, set(args.away.nodes))) for each in args.stack.gateways]
        prepared = self._prepare()
        traffic = self._put_back(prepared)
        healthy = self._roll_out(prepared, list(traffic.values()))
        self._monitoring(self._gateways(healthy, traffic))
        versions = {node: each.models.versions for node, each in prepared.items()}
        told = outputs.of(args.stack, self._images.tags, versions, set(args.away.nodes))
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
        builder = self._host(near[0].host) if stack.images.registry and near else None
        self._images = Images(stack, builder, self._away)
        return {
            node.name: PreparedNode(
                node.name,
                PreparedNodeArgs(
                    stack,
                    node,
                    self._host(node.host),
                    self._images,
                    authority=self._authority,
                    differences=self._written.of_node(node.name),
                ),
                self._inside,
            )
            for node in near
        }

    def _reached(self) -> list[tuple[Address, GatewayPlan, str]]:
        """The gateways whose hosts can be reached, and the file with the nodes that each sends traffic to;
        none for a process on this computer."""
        return [
            (each.gateway.host, plan, plan.live)
            for each, plan in self._plans
            if plan.live is not None and each.gateway.host not in self._away.hosts
        ]

    def _put_back(self, prepared: dict[str, PreparedNode]) -> dict[Address, command.local.Command]:
        """Declares the steps that put nodes back behind the gateways, before the first node changes.

        One for each gateway whose host can be reached.
        """
        needs = [each for node in prepared.values() for each in node.resources]
        serving = tuple(each.address for name, each in prepared.items() if not self._stack.node(name).drained)
        steps = {
            host: step(
                "infra.steps.traffic",
                "apply",
                Traffic(
                    gateway=Connection.to(host, self._stack.ssh),
                    file=live,
                    reload=plan.reload,
                    nodes=serving,
                ),
            )
            for host, plan, live in self._reached()
        }
        if isinstance(self._stack.gateway.host, EmbeddedHost):
            steps[self._stack.gateway.host] = putting_back(self._stack, serving)
        return {
            host: command.local.Command(
                f"gateway-traffic@{machine_of(host)}",
                **arguments,
                opts=pulumi.ResourceOptions(parent=self, depends_on=needs),
            )
            for host, arguments in steps.items()
        }

    def _roll_out(
        self, prepared: dict[str, PreparedNode], traffic: Sequence[pulumi.Resource]
    ) -> list[pulumi.Resource]:
        """Declares the nodes in their batches; returns the resources that tell that the nodes are healthy."""
        rollout = self._stack.rollout
        # The first batch waits until everything is ready on every host; each later one only for the batch
        # before it, so that the number of dependencies grows with the fleet and not with its square.
        after: list[pulumi.Resource] = [each for node in prepared.values() for each in node.resources]
        if traffic:
            after = [Finished(each) for each in traffic]
        healthy: list[pulumi.Resource] = []
        # The stack's own nginx sends a request on while it avoids nodes. Of an existing one it is not known.
        avoided = FAILURE_SECONDS + 1 if self._stack.gateway.mode == "existing" else 0
        entrance = self._entrance()
        moves = Moves(self._stack, portable(self._stack.ssh), pulumi.get_stack(), frozenset(self._away.hosts))
        turns = self._turns(prepared, entrance, moves)
        sickness = uuid.uuid4().hex[:8]
        # A host that is away tries nothing, so it is no canary. What does not answer has nothing to lose.
        nodes = [node for node in self._stack.nodes if node.embedded or node.name in prepared]
        nodes.sort(key=lambda node: node.name not in self._sick)
        way_back = self._way_back(prepared, turns, moves)
        hooks = TurnHooks(turns, self._stack.name, way_back)
        canaries = frozenset(node.name for node in nodes[: rollout.canary])
        trials = self._trials(prepared, canaries, turns, way_back)
        for batch in batches(nodes, rollout):
            options = pulumi.ResourceOptions(parent=self, depends_on=after)
            ready: list[pulumi.Resource] = []
            for node in batch:
                if node.embedded:
                    embedded = EmbeddedNode(node.name, EmbeddedNodeArgs(self._stack, node), options)
                    ready.append(embedded.ready)
                else:
                    sick = sickness if node.name in self._sick else None
                    args = NodeArgs(prepared[node.name], avoided, hooks, sick, trials, way_back)
                    ready.append(Node(node.name, args, options).done)
            after = [Finished(each) for each in ready]
            healthy += ready
        return healthy

    def _trials(
        self,
        prepared: dict[str, PreparedNode],
        canaries: frozenset[str],
        turns: Turns,
        way_back: WayBackHooks | None,
    ) -> TrialHooks | None:
        """The hooks that try the nodes that have changed. They run in this program's own folder."""
        stack, ssh = self._stack, portable(self._stack.ssh)
        if stack.rollout.judge is None:
            return None
        nodes = {name: node_health.address(stack, stack.node(name), ssh) for name in prepared}
        trials = Trials(nodes, canaries, stack.rollout, turns, roles.by_node(stack))
        return TrialHooks(trials, stack.name, way_back)

    def _way_back(self, prepared: dict[str, PreparedNode], turns: Turns, moves: Moves) -> WayBackHooks | None:
        """The hooks that put back what nodes ran before an update that failed."""
        stack, ssh = self._stack, portable(self._stack.ssh)
        if stack.rollout.on_failure == "stop":
            return None
        nodes = {name: node_health.address(stack, stack.node(name), ssh) for name in prepared}
        folders = {name: each.models.root for name, each in prepared.items() if each.models.synced}

        def switch(name: str, versions: dict[str, str]) -> None:
            model_steps.activate(prepared[name].models.in_use(nodes[name].connection, versions))

        way_back = WayBack(nodes, folders, switch, turns, moves, stack.rollout.ready_timeout_seconds)
        return WayBackHooks(way_back, stack.name)

    def _entrance(self) -> Entrances | None:
        """The gateways as hooks reach them; None where none can be reached, or it is a process here."""
        ssh = portable(self._stack.ssh)
        each = [Entrance(Connection.to(host, ssh), live) for host, _, live in self._reached()]
        return Entrances(tuple(each)) if each else None

    def _turns(self, prepared: dict[str, PreparedNode], entrance: Entrances | None, moves: Moves) -> Turns:
        """What decides when a node may be taken down, in hooks that run in this program's own folder."""
        stack, ssh = self._stack, portable(self._stack.ssh)
        serving = [node for node in stack.nodes if not node.drained and not node.embedded]
        reached = {
            node.name: node_health.address(stack, node, ssh) for node in serving if node.name in prepared
        }
        away = frozenset(node.name for node in serving if node.name not in prepared)
        addresses = {server.name: server.http_address for server in upstreams(stack)}
        return Turns(reached, away, stack.rollout, entrance, moves, addresses, roles.by_node(stack))

    def _gateways(
        self, healthy: list[pulumi.Resource], traffic: Mapping[Address, command.local.Command]
    ) -> list[pulumi.Resource]:
        """Declares the gateways, each after the one before it. Returns what the last one is done with."""
        away = self._away
        after = healthy
        for stack, plan in self._plans:
            host = stack.gateway.host
            options = pulumi.ResourceOptions(parent=self, depends_on=after)
            if plan.configuration is None:
                embedded = EmbeddedGatewayArgs(stack, plan.url, set(away.nodes), traffic[host].stdout)
                EmbeddedGateway("gateway", embedded, options)
            elif host not in away.hosts:
                args = GatewayArgs(
                    stack,
                    self._host(host),
                    plan.url,
                    plan.configuration,
                    away=frozenset(away.nodes),
                    client=self._authority.gateway() if self._authority and stack.node_tls else None,
                    written_by=[traffic[host].stdout],
                    keepalived=self._keepalived(stack),
                    console=self._console(stack),
                    differences=self._written.of_gateway(host),
                )
                after = [Finished(each) for each in Gateway(stack.gateway.name, args, options).done]
        return after

    def _monitoring(self, after: list[pulumi.Resource]) -> None:
        """Declares what watches the fleet, after the gateways."""
        stack = self._stack
        if stack.monitoring_host is None:
            return
        client = self._authority.prometheus() if self._authority and stack.node_tls else None
        found = self._written.monitoring
        args = MonitoringArgs(stack, self._host, frozenset(self._away.hosts), client, found)
        Monitoring(names.MONITORING, args, pulumi.ResourceOptions(parent=self, depends_on=after))

    def _console(self, stack: Stack) -> HostImage | None:
        """The image of the console beside a gateway in a container, on its host; None without a console."""
        source = service_source(stack)
        if stack.console is None or stack.gateway.mode != "container" or source is None:
            return None
        return self._images.on(self._host(stack.gateway.host), names.SERVICE, source)

    def _keepalived(self, stack: Stack) -> HostImage | None:
        """The image that moves the virtual address, on the gateway's host; None without such an address."""
        virtual = stack.gateway.virtual_address
        if virtual is None or virtual.source is None:
            return None
        return self._images.on(self._host(stack.gateway.host), names.KEEPALIVED, virtual.source)
