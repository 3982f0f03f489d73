"""A node on a Docker host as Pulumi components: what is prepared there, then the containers that serve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names, node_health
from infra.image_references import pids_limits, sources
from infra.program import differences, runtimes, service_container
from infra.program.authority import Authority
from infra.program.command import step
from infra.program.containers import container
from infra.program.host import Host, dependencies
from infra.program.images import Images
from infra.program.models import NodeModels, NodeModelsArgs
from infra.program.runtimes.base import Place
from infra.program.secrets import concealed
from infra.program.trials import TrialHooks, trial
from infra.program.turns import TurnHooks, turn
from infra.program.way_back import WayBackHooks
from infra.stack import Node as NodeSettings
from infra.stack import Stack, memory_bytes
from infra.stack.hosts import bracketed
from infra.steps.readiness import Readiness
from infra.update.written import ModelDifferences

TYPE = "gpu-inference:index:Node"


@dataclass(frozen=True)
class PreparedNodeArgs:
    """A node, its host, the images, further variables of the service, the maker of certificates, and the
    differences of the host's models from what was copied there."""

    stack: Stack
    node: NodeSettings
    host: Host
    images: Images
    secrets: Mapping[str, pulumi.Input[str]] = field(default_factory=dict)
    authority: Authority | None = None
    differences: ModelDifferences = field(default_factory=ModelDifferences)


class PreparedNode(pulumi.ComponentResource):
    """What a node needs on its host before its containers change: network, volume, images, copies of models.

    Nothing of it touches what serves, so all nodes are prepared at once.
    """

    def __init__(self, name: str, args: PreparedNodeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-inference:index:PreparedNode", name, None, opts)
        self.args = args
        stack, node, host = args.stack, args.node, args.host
        network = host.declare(
            docker.Network, f"{node.name}-network", parent=self, name=names.network(stack, node)
        )
        shared_memory = host.declare(
            docker.Volume,
            f"{node.name}-shm-{stack.triton.shm_size}",
            parent=self,
            # Docker refuses a second network of a name, but hands out a volume that exists as a new one: if a
            # second address names the same machine, the update must fail before Pulumi adopts the volume.
            needs=[network],
            name=names.shared_memory_volume(stack, node),
            driver="local",
            driver_opts={
                "type": "tmpfs",
                "device": "tmpfs",
                "o": f"size={memory_bytes(stack.triton.shm_size)},mode=1777",
            },
        )
        self.models = NodeModels(
            f"{name}-models",
            NodeModelsArgs(stack, node, host, args.differences),
            pulumi.ResourceOptions(parent=self),
        )
        self.images = {
            part: args.images.on(host, part, source) for part, source in sources(stack, node).items()
        }
        #: The repositories of the images that are built for the stack.
        self.built = tuple(
            self.images[part].reference.rpartition(":")[0]
            for part, source in sources(stack, node).items()
            if not isinstance(source, str)
        )
        #: Outlives Triton's container, which would build its engines again: minutes without the node.
        self.engines: list[pulumi.Resource] = []
        if node.runtime == "triton" and node.wants_gpus:
            name_of_volume = names.engines_volume(stack, node)
            self.engines.append(
                host.declare(
                    docker.Volume,
                    f"{node.name}-engines",
                    parent=self,
                    needs=[network],
                    name=name_of_volume,
                )
            )
        self.address = node_health.address(stack, node, stack.ssh)
        #: What every container of the node is on.
        self.shared: list[pulumi.Resource] = [network, shared_memory]
        self.resources: list[pulumi.Resource] = [
            *self.shared,
            *self.engines,
            *self.models.copies,
            *(resource for image in self.images.values() for resource in image.needs),
        ]
        #: The arguments of the containers that were declared so far.
        self.containers: list[dict[str, Any]] = []
        #: Replaces the containers when it changes.
        self.recovery: pulumi.Output[str] | None = None
        #: Hooks for what may fail when the node changes.
        self.failing: pulumi.ResourceHookBinding | None = None
        self.register_outputs({"models": self.models.versions})

    def container(
        self,
        part: str,
        *,
        parent: pulumi.Resource,
        needs: Sequence[pulumi.Resource],
        outlived_by: docker.Container | None = None,
        **arguments: Any,
    ) -> docker.Container:
        """Declares the container of one part of the node, after the resources that it `needs`.

        When the container `outlived_by` is replaced, this one is too, and Pulumi deletes this one first.
        `arguments` are those of `containers.container` that differ from part to part.
        """
        stack, node, image = self.args.stack, self.args.node, self.images[part]
        declared = container(
            stack,
            names.container(stack, node, part),
            part,
            image=image.reference,
            network=names.network(stack, node),
            alias=part,
            ports=names.published_by(stack, node, part),
            bind=node.bind,
            **arguments,
        )
        self.containers.append(declared)
        return self.args.host.declare(
            docker.Container,
            f"{node.name}-{part}",
            parent=parent,
            needs=[*needs, *image.needs],
            delete_before_replace=True,
            replace_with=[outlived_by] if outlived_by is not None else [],
            hooks=[self.failing],
            # Of an unknown value, as in a preview, the engine says that it is another one.
            replacement_trigger=None if pulumi.runtime.is_dry_run() else self.recovery,
            **declared,
        )


@dataclass(frozen=True)
class NodeArgs:
    """What was prepared for the node, and the seconds for which the gateway may avoid it when it is ready.

    In a fleet, `turns` decide when the node's containers may change. `sick` is a new text in every update
    that finds the node without an answer: its containers are then replaced even if nothing else is new.
    `trials` try the node when it is healthy, and `way_back` puts back what it ran before.
    """

    prepared: PreparedNode
    avoided: float = 0
    turns: TurnHooks | None = None
    sick: str | None = None
    trials: TrialHooks | None = None
    way_back: WayBackHooks | None = None


class Node(pulumi.ComponentResource):
    """A node's containers, and the step that waits until the node is healthy.

    They are created after the resources in `opts.depends_on`: the nodes before it in the rollout.
    """

    def __init__(self, name: str, args: NodeArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(TYPE, name, None, opts)
        self.declare(args, dependencies(opts))

    def declare(self, args: NodeArgs, after: Sequence[pulumi.Resource]) -> None:
        """Declares the node's resources in this component, after others."""
        prepared = args.prepared
        self._prepared = prepared
        stack, node, host = prepared.args.stack, prepared.args.node, prepared.args.host
        prepared.failing = args.way_back.failing if args.way_back is not None else None
        if args.turns is not None:
            recovery = prepared.recovery = self._recovery(args.sick)
            declared = prepared.containers
            after = [turn(node.name, host, args.turns, declared, recovery, parent=self, needs=after)]
        if prepared.models.synced:
            reasons = prepared.args.differences.reasons
            # What an update put back is other than the state says.
            variables: differences.Variables | None = (
                None if prepared.recovery is None else {"RECOVERY": prepared.recovery}
            )
            in_use = host.declare(
                command.local.Command,
                f"{node.name}-models-in-use",
                parent=self,
                needs=[*prepared.models.copies, *after, *prepared.shared],
                hooks=[args.way_back.models if args.way_back is not None else None],
                ignore_changes=differences.ignored(reasons, variables),
                environment=differences.environment(reasons, variables),
                **prepared.models.activation(),
            )
            # One edge to the nodes before is enough: Pulumi follows every edge all the way back.
            after = [in_use]
        needs = [*prepared.shared, *after]
        runtime = runtimes.declare(Place(prepared, self, needs))
        behind = [*prepared.shared, *(runtime[-1:] or needs)]
        service = service_container.declare(Place(prepared, self, behind), runtime)
        containers = [*runtime, service]
        triggers = [*(each.id for each in containers), prepared.models.versions]
        self.ready = host.declare(
            command.local.Command,
            f"{node.name}-ready",
            parent=self,
            needs=[service],
            hooks=[args.turns.after if args.turns is not None else None, prepared.failing],
            **step(
                "infra.steps.readiness",
                "wait",
                Readiness(
                    node=node.name,
                    connection=host.connection,
                    service=prepared.address.service,
                    url=node_health.URL,
                    containers=tuple(names.container(stack, node, part) for part in sources(stack, node)),
                    timeout=stack.rollout.ready_timeout_seconds
                    + (names.ENGINE_SECONDS if prepared.models.building_engines else 0),
                    engines=prepared.models.building_engines,
                    avoided=args.avoided,
                    built=prepared.built,
                    pids=pids_limits(stack, node),
                ),
                triggers=triggers,
            ),
        )
        #: When this is there, the next nodes may change.
        self.done: pulumi.Resource = self.ready
        if args.trials is not None:
            self.done = trial(node.name, host, args.trials, triggers, parent=self, needs=[self.ready])
        http, grpc = stack.dialled_ports(node)
        dialled: Mapping[str, Any] = {
            "name": node.name,
            "host": node.public_host,
            "http": http,
            "grpc": grpc,
            "drained": node.drained,
            # Left out where they are the defaults, so that gateways of older programs see no change.
            **({} if node.serves_all else {"tasks": node.tasks}),
            **({} if node.weight == 1 else {"weight": node.weight}),
        }
        grpc_address = f"{bracketed(node.public_host)}:{grpc}"
        addresses = {"dialled": dialled, "http": stack.node_url(node), "grpc": grpc_address}
        told = concealed(addresses, stack.secrets)
        # A gateway sends traffic to a node that is healthy.
        self.upstream = pulumi.Output.all(told["dialled"], self.ready.urn).apply(lambda both: both[0])
        self.http = pulumi.Output.from_input(told["http"])
        self.grpc = pulumi.Output.from_input(told["grpc"])
        self.register_outputs({"http": self.http, "grpc": self.grpc, "upstream": self.upstream})

    def _recovery(self, sick: str | None) -> pulumi.Output[str]:
        """What replaces the containers of a node that is `sick`, once.

        A value that updates change and previews and later updates leave as it is in the state.
        """
        prepared = self._prepared
        recovery = prepared.args.host.declare(
            command.local.Command,
            f"{prepared.args.node.name}-recovery",
            parent=self,
            ignore_changes=[] if sick else ["environment"],
            before_0_1=False,
            create='printf %s "$SICK"',
            environment={"SICK": sick or "no"},
        )
        return recovery.stdout
