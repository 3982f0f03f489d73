"""The gateway as a Pulumi component: its configuration is a resource of its own, and so is its container."""

from __future__ import annotations

from collections.abc import Sequence, Set

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.connection import Connection
from infra.gateway.plan import ContainerPlan, EmbeddedPlan, ExistingPlan, GatewayPlan
from infra.program import embedded as embedded_steps
from infra.program.command import step
from infra.program.containers import container
from infra.program.host import DockerHost
from infra.stack import Stack
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


class Gateway(pulumi.ComponentResource):
    """One HTTP and one gRPC entrance over all nodes."""

    def __init__(
        self,
        stack: Stack,
        plan: GatewayPlan,
        host: DockerHost | None,
        ready: Sequence[pulumi.Resource | None],
        away: Set[str] = frozenset(),
    ) -> None:
        """`host` is None for the embedded gateway; `ready` is what nodes wait for to get traffic."""
        super().__init__(host.component("Gateway") if host else "gpu-inference:index:Gateway", "gateway")
        self.url = plan.url
        if isinstance(plan, EmbeddedPlan):
            self._embedded(stack, ready, away)
        elif host is not None:
            in_container = isinstance(plan, ContainerPlan)
            configuration = host.declare(
                command.local.Command,
                # Two names: where one mode follows the other, the files of the one before are removed.
                "gateway-config" if in_container else "gateway-servers",
                parent=self,
                needs=ready,
                **step(
                    "infra.steps.gateway",
                    "apply",
                    _declaration(stack, plan, host.connection),
                    delete="remove",
                    secret=bool(stack.api_keys) and in_container,
                    # In another folder it is made anew, and then what was in the one before is removed.
                    triggers=[plan.folder if isinstance(plan, ContainerPlan) else plan.file],
                ),
            )
            if isinstance(plan, ContainerPlan):
                self._container(stack, plan, host, configuration)
        self.register_outputs({"url": self.url})

    def _container(
        self, stack: Stack, plan: ContainerPlan, host: DockerHost, configuration: pulumi.Resource | None
    ) -> None:
        gateway = stack.gateway
        network = names.gateway_network(stack)
        made = host.declare(docker.Network, "gateway-network", parent=self, name=network)
        mounts = [(plan.folder, names.CONFIGURATIONS_MOUNT), *((path, path) for path in plan.mounts)]
        declared = container(
            stack,
            plan.container,
            names.GATEWAY,
            image=gateway.image,
            network=network,
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
            "gateway",
            parent=self,
            needs=[made, configuration],
            delete_before_replace=True,
            **declared,
        )

    def _embedded(self, stack: Stack, ready: Sequence[pulumi.Resource | None], away: Set[str]) -> None:
        command.local.Command(
            "gateway-process",
            **embedded_steps.gateway(stack, away),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[resource for resource in ready if resource is not None]
            ),
        )


def _declaration(stack: Stack, plan: ContainerPlan | ExistingPlan, connection: Connection) -> Configuration:
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
