"""The gateway as a Pulumi component: its configuration is a resource of its own, and so is its container."""

from __future__ import annotations

from collections.abc import Sequence, Set

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.gateway import plan as declare
from infra.program.command import step
from infra.program.containers import container
from infra.program.host import DockerHost
from infra.stack import Stack

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
        host: DockerHost | None,
        ready: Sequence[pulumi.Resource | None],
        away: Set[str] = frozenset(),
    ) -> None:
        """`host` is None for the embedded gateway; `ready` is what nodes wait for to get traffic."""
        super().__init__(host.component("Gateway") if host else "gpu-inference:index:Gateway", "gateway")
        self.url = declare.url(stack)
        if host is None:
            self._embedded(stack, ready, away)
        else:
            in_container = stack.gateway.mode == "container"
            declared = declare.configuration(stack, host.connection, away)
            configuration = host.declare(
                command.local.Command,
                # Two names: where one mode follows the other, the files of the one before are removed.
                "gateway-config" if in_container else "gateway-servers",
                parent=self,
                needs=ready,
                **step(
                    "infra.steps.gateway",
                    "apply",
                    declared,
                    delete="remove",
                    secret=bool(stack.api_keys) and in_container,
                    # In another folder it is made anew, and then what was in the one before is removed.
                    triggers=[declared["folder"] if in_container else declared["file"]],
                ),
            )
            if in_container:
                self._container(stack, host, configuration)
        self.register_outputs({"url": self.url})

    def _container(self, stack: Stack, host: DockerHost, configuration: pulumi.Resource | None) -> None:
        gateway = stack.gateway
        name = declare.target(stack, host.connection)["container"]
        folder = declare.target(stack, host.connection)["folder"]
        network = names.gateway_network(stack)
        made = host.declare(docker.Network, "gateway-network", parent=self, name=network)
        mounts = [
            (folder, names.CONFIGURATIONS_MOUNT),
            *((path, path) for path in declare.tls_folders(stack)),
        ]
        declared = container(
            stack,
            name,
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
        from infra.program import embedded as embedded_steps

        command.local.Command(
            "gateway-process",
            **embedded_steps.gateway(stack, away),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[resource for resource in ready if resource is not None]
            ),
        )
