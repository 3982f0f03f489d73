"""What watches a fleet as a Pulumi component: Prometheus, Alertmanager and Grafana on one host, exporters on
all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.certificates import Identity
from infra.gateway.render import DOCKER_HOST
from infra.monitoring import folders
from infra.monitoring.exporters import NOT_PRIVATE, exporters, left_out
from infra.monitoring.parts import CONFIGURATIONS, DATA, Part, parts
from infra.monitoring.prometheus import beside_gateway
from infra.program import differences
from infra.program.command import step
from infra.program.containers import container
from infra.program.exporters import exporter
from infra.program.host import Host, dependencies
from infra.stack import Host as Address
from infra.stack import Stack
from infra.steps import monitoring as steps

TYPE = "gpu-inference:index:Monitoring"

_READY_SECONDS = 60
#: The programs are written in Go, which has a thread for each call that waits.
_PIDS = 512
#: Prometheus writes what it has in memory to its disk.
_STOP_SECONDS = 30


@dataclass(frozen=True)
class MonitoringArgs:
    """The fleet's settings, the hosts as Pulumi drives them, and those that are `away`. `client` is
    Prometheus's certificate for nodes with TLS, a secret. `differences` are those of each part's files on
    the host from what the step wrote."""

    stack: Stack
    host: Callable[[Address], Host]
    away: frozenset[Address] = frozenset()
    client: pulumi.Output[Identity] | None = None
    differences: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Monitoring(pulumi.ComponentResource):
    """All that watches a fleet, after the resources in `opts.depends_on`."""

    def __init__(self, name: str, args: MonitoringArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(TYPE, name, None, opts)
        stack, after = args.stack, dependencies(opts)
        for machine in left_out(stack):
            pulumi.log.warn(f"{machine} has no exporter: {NOT_PRIVATE}")
        own = stack.monitoring_host
        network: docker.Network | None = None
        if own is not None and own not in args.away:
            host = args.host(own)
            network = host.declare(
                docker.Network,
                f"{names.MONITORING}-network",
                parent=self,
                before_0_1=False,
                name=names.monitoring_container(stack, names.MONITORING),
            )
            for part in parts(stack):
                self._part(part, args, host, network, after)
        for each in exporters(stack):
            inside = each.address is None
            if not each.existing and each.host not in args.away and not (inside and network is None):
                needs = [network] if inside and network is not None else []
                exporter(each, stack, args.host(each.host), parent=self, needs=needs)
        self.register_outputs({})

    def _part(
        self,
        part: Part,
        args: MonitoringArgs,
        host: Host,
        network: docker.Network,
        after: list[pulumi.Resource],
    ) -> None:
        stack, connection = args.stack, host.connection
        folder = names.monitoring_folder(stack, part.name)
        name = names.monitoring_container(stack, part.name)
        image = host.declare_image(
            docker.RemoteImage, f"{part.name}-image", None, name=part.image, keep_locally=True
        )
        prepared = host.declare(
            command.local.Command,
            f"{part.name}-folder",
            parent=self,
            before_0_1=False,
            **step(
                "infra.steps.monitoring",
                "prepare",
                steps.Folder(connection=connection, folder=folder),
                delete="remove",
                triggers=[folder],
            ),
        )

        def files(known: Part) -> steps.Files:
            return steps.Files(
                connection=connection,
                folder=folder,
                container=name,
                image=known.image,
                files=known.files,
                check=known.check,
                restart=known.reload == "restart",
            )

        def with_client(client: Identity) -> str:
            [found] = [each for each in parts(stack, client) if each.name == part.name]
            return files(found).to_json()

        found = args.differences.get(part.name, ())
        dials_nodes = args.client is not None and part.name == names.PROMETHEUS
        configured = host.declare(
            command.local.Command,
            f"{part.name}-config",
            parent=self,
            needs=[prepared, image, *after],
            before_0_1=False,
            ignore_changes=differences.ignored(found),
            **step(
                "infra.steps.monitoring",
                "apply",
                args.client.apply(with_client) if args.client is not None and dials_nodes else files(part),
                secret=part.secret or dials_nodes,
                triggers=[folder, prepared.id],
                environment=differences.environment(found),
            ),
        )
        arguments = container(
            stack,
            name,
            part.name,
            image=part.image,
            network=names.monitoring_container(stack, names.MONITORING),
            alias=part.name,
            ports={part.port: part.port},
            bind=part.bind,
            env=part.environment,
            memory=part.memory,
            stop_seconds=_STOP_SECONDS,
            # The owner of the folder: the configuration has secrets, and nobody else reads it.
            user=prepared.stdout.apply(str.strip),
            writable=["/tmp"],
            command=list(part.command) or None,
            hosts=[docker.ContainerHostArgs(host=DOCKER_HOST, ip="host-gateway")],
            mounts=[
                docker.ContainerMountArgs(
                    type="bind",
                    source=f"{folder}/{folders.CONFIGURATIONS}",
                    target=CONFIGURATIONS,
                    read_only=True,
                ),
                docker.ContainerMountArgs(type="bind", source=f"{folder}/{folders.DATA}", target=DATA),
            ],
        )
        if part.name == names.PROMETHEUS and beside_gateway(stack):
            # It reads the gateway there, and the console reads Prometheus, without a port of the host.
            arguments["networks_advanced"] += [
                docker.ContainerNetworksAdvancedArgs(name=names.gateway_container(stack), aliases=[part.name])
            ]
        made = host.declare(
            docker.Container,
            part.name,
            parent=self,
            needs=[network, configured],
            delete_before_replace=True,
            before_0_1=False,
            **arguments,
        )
        host.declare(
            command.local.Command,
            f"{part.name}-ready",
            parent=self,
            needs=[made],
            before_0_1=False,
            **step(
                "infra.steps.monitoring",
                "wait",
                steps.Ready(
                    connection=connection,
                    container=name,
                    ask=part.ready,
                    timeout=_READY_SECONDS,
                    pids=_PIDS,
                ),
                triggers=[made.id, configured.stdout],
            ),
        )
