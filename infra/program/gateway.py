"""The gateway as a Pulumi component: its configuration is a resource of its own, and so is its container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.connection import Connection
from infra.gateway.plan import ContainerPlan, ExistingPlan
from infra.program.command import step
from infra.program.containers import container
from infra.program.host import Host, dependencies
from infra.stack import Stack
from infra.stack.hosts import bracketed
from infra.steps.existing_site import ExistingSite
from infra.steps.gateway import Configuration, ContainerConfiguration

# nginx's own process opens the files and the sockets as root and gives its workers to its own user.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID")

# A host that is cut off answers nothing at all: give up on its open connections within seconds.
_SYSCTLS = {
    "net.ipv4.tcp_retries2": "4",
    "net.ipv4.tcp_keepalive_time": "5",
    "net.ipv4.tcp_keepalive_intvl": "2",
    "net.ipv4.tcp_keepalive_probes": "3",
}


TYPE = "gpu-inference:index:Gateway"


@dataclass(frozen=True)
class GatewayArgs:
    """The fleet's settings, the gateway's plan, and its host.

    `configuration` is what the step on the host puts in place, where it is not the plan's.
    """

    stack: Stack
    plan: ContainerPlan | ExistingPlan
    host: Host
    configuration: pulumi.Output[str] | None = None


class Gateway(pulumi.ComponentResource):
    """One HTTP and one gRPC entrance over all nodes.

    Its configuration is written after the resources in `opts.depends_on`: the nodes that it sends traffic to.
    """

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(TYPE, name, None, opts)
        self.declare(name, args, dependencies(opts))

    def declare(self, name: str, args: GatewayArgs, after: Sequence[pulumi.Resource]) -> None:
        """Declares the gateway's resources in this component, after others."""
        stack, host, plan = args.stack, args.host, args.plan
        in_container = isinstance(plan, ContainerPlan)
        configured = host.declare(
            command.local.Command,
            # Two names: where one mode follows the other, the files of the former one are removed.
            f"{name}-config" if in_container else f"{name}-servers",
            parent=self,
            needs=after,
            **step(
                "infra.steps.gateway",
                "apply",
                args.configuration or configuration(stack, plan, host.connection),
                delete="remove",
                secret=bool(stack.api_keys) and in_container,
                # When the folder changes, the resource is replaced: the new folder is written, then the old
                # one is deleted.
                triggers=[plan.folder if isinstance(plan, ContainerPlan) else plan.file],
            ),
        )
        if isinstance(plan, ContainerPlan):
            self._container(name, args, plan, configured)
        self.http = pulumi.Output.from_input(plan.url)
        self.grpc = pulumi.Output.from_input(f"{bracketed(stack.gateway.public_host)}:{stack.gateway.grpc}")
        self.register_outputs({"http": self.http, "grpc": self.grpc})

    def _container(
        self, name: str, args: GatewayArgs, plan: ContainerPlan, configured: pulumi.Resource
    ) -> None:
        stack, host, gateway = args.stack, args.host, args.stack.gateway
        network_name = names.gateway_network(stack)
        network = host.declare(docker.Network, f"{name}-network", parent=self, name=network_name)
        mounts = [(plan.folder, names.CONFIGURATIONS_MOUNT), *((path, path) for path in plan.mounts)]
        arguments = container(
            stack,
            plan.container,
            names.GATEWAY,
            image=gateway.image,
            network=network_name,
            alias=names.GATEWAY,
            ports={names.GATEWAY_HTTP_PORT: gateway.http, names.GATEWAY_GRPC_PORT: gateway.grpc},
            bind=gateway.bind,
            capabilities=_CAPABILITIES,
            # Workers finish what they are doing before they end.
            stop_signal="SIGQUIT",
            stop_seconds=stack.service.shutdown_grace_seconds,
            command=["nginx", "-c", names.mounted_nginx_conf(), "-g", "daemon off;"],
            sysctls=_SYSCTLS,
            hosts=[docker.ContainerHostArgs(host="host.docker.internal", ip="host-gateway")],
            mounts=[
                docker.ContainerMountArgs(type="bind", source=source, target=target, read_only=True)
                for source, target in mounts
            ],
        )
        host.declare(
            docker.Container,
            name,
            parent=self,
            needs=[network, configured],
            delete_before_replace=True,
            **arguments,
        )


def configuration(stack: Stack, plan: ContainerPlan | ExistingPlan, connection: Connection) -> Configuration:
    """What the step on the gateway's host is to put in place."""
    if isinstance(plan, ContainerPlan):
        return ContainerConfiguration(
            connection=connection,
            folder=plan.folder,
            container=plan.container,
            image=stack.gateway.image,
            mounts=plan.mounts,
            revision=plan.revision,
            files=plan.files,
        )
    return ExistingSite(
        connection=connection,
        stack=stack.name,
        folder=plan.folder,
        file=plan.file,
        nginx=stack.gateway.nginx,
        sets_aside=plan.sets_aside,
        servers=plan.servers,
    )
