"""The gateway as a Pulumi component: its configuration is a resource of its own, and so is its container."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from inference_service import addresses
from infra import names
from infra.certificates import Identity
from infra.gateway.configuration import Configuration, ContainerConfiguration
from infra.gateway.plan import curl_options, gateway_plan, own_url
from infra.gateway.render import DOCKER_HOST, Paths
from infra.program import differences
from infra.program.authority import MARK
from infra.program.command import step
from infra.program.console import console
from infra.program.containers import container, healthcheck
from infra.program.host import Host, dependencies
from infra.program.images import HostImage
from infra.program.secrets import concealed
from infra.program.virtual_address import virtual_address
from infra.stack import Stack
from infra.stack.hosts import bracketed
from infra.steps.entrance import Entrance

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

_STOP_SECONDS = 5
#: How long a gateway may take to answer after a change.
_ANSWER_SECONDS = 30


@dataclass(frozen=True)
class GatewayArgs:
    """The fleet's settings, the gateway's host, its HTTP entrance and its configuration.

    Nodes that are `away` get no traffic. `output` is the JSON of the configuration that the step puts in
    place, if that is an output. `written_by` are the outputs of steps that write into the configuration too:
    after each of their runs it is written anew. `client` is the gateway's certificate for nodes with TLS, a
    secret. `keepalived` is its image on the gateway's host, where the gateways have a virtual address.
    So is `console`, where the stack has one.
    `differences` are those of the files there from what the step wrote.
    """

    stack: Stack
    host: Host
    url: str
    configuration: Configuration
    output: pulumi.Output[str] | None = None
    written_by: Sequence[pulumi.Output[str]] = ()
    client: pulumi.Output[Identity] | None = None
    away: frozenset[str] = frozenset()
    keepalived: HostImage | None = None
    console: HostImage | None = None
    differences: Sequence[str] = ()


class Gateway(pulumi.ComponentResource):
    """One HTTP and one gRPC entrance over all nodes.

    Its configuration is written after the resources in `opts.depends_on`: the nodes that it sends traffic to.
    """

    def __init__(self, name: str, args: GatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(TYPE, name, None, opts)
        # The machine is in the names of several gateways, and in those of all resources on a host.
        self.declare(name.partition("@")[0], args, dependencies(opts))

    def declare(self, name: str, args: GatewayArgs, after: Sequence[pulumi.Resource]) -> None:
        """Declares the gateway's resources in this component, after others."""
        stack, host, configuration = args.stack, args.host, args.configuration
        # Two names: where one mode follows the other, the files of the former one are removed.
        if isinstance(configuration, ContainerConfiguration):
            resource, written = f"{name}-config", configuration.folder
            secret = bool(stack.api_keys) or args.client is not None
        else:
            resource, written, secret = f"{name}-servers", configuration.file, False
        needs = list(after)
        if isinstance(configuration, ContainerConfiguration):
            # The step tests the configuration in this image, and Docker's own pull has no login.
            image = host.declare_image(
                docker.RemoteImage, f"{name}-image", None, name=configuration.image, keep_locally=True
            )
            needs.append(image)
        mark: differences.Variables | None = MARK if args.client is not None else None
        changes_over = stack.serves_tls and stack.serves_plain
        configured = host.declare(
            command.local.Command,
            resource,
            parent=self,
            needs=needs,
            # Where the gateway stops to dial nodes by TLS, its mark goes.
            ignore_changes=[] if changes_over else differences.ignored(args.differences, mark),
            **step(
                "infra.steps.gateway",
                "apply",
                self._text(args),
                delete="remove",
                secret=secret,
                # When the folder changes, the resource is replaced: the new folder is written, then the old
                # one is deleted.
                triggers=[written, *args.written_by],
                environment=differences.environment(args.differences, mark),
            ),
        )
        #: When these are there, the next gateway may change.
        self.done: list[pulumi.Resource] = [configured]
        if isinstance(configuration, ContainerConfiguration):
            nginx = self._container(name, args, configuration, configured)
            self.done.append(nginx)
            if args.console is not None:
                # The next gateway does not wait for it: the gateway serves without its console.
                needs = [self._network, configured]
                console(name, stack, host, args.console, args.client, parent=self, needs=needs)
            self.done.append(self._answers(name, args, nginx, configured))
            if args.keepalived is not None:
                needs = list(self.done)
                self.done.append(
                    virtual_address(name, stack, host, args.keepalived, nginx, parent=self, needs=needs)
                )
        grpc = f"{bracketed(stack.gateway.public_host)}:{stack.gateway.grpc}"
        told = concealed({"http": args.url, "grpc": grpc}, stack.secrets)
        self.http = pulumi.Output.from_input(told["http"])
        self.grpc = pulumi.Output.from_input(told["grpc"])
        self.register_outputs({"http": self.http, "grpc": self.grpc})

    @staticmethod
    def _text(args: GatewayArgs) -> Configuration | pulumi.Output[str]:
        """The configuration that the step puts in place."""
        if args.client is None:
            return args.output or args.configuration
        stack, away = args.stack, args.away

        def written(client: Identity) -> str:
            configuration = gateway_plan(stack, away, client).configuration
            assert configuration is not None
            return configuration.to_json()

        return args.client.apply(written)

    def _container(
        self,
        name: str,
        args: GatewayArgs,
        configuration: ContainerConfiguration,
        configured: pulumi.Resource,
    ) -> docker.Container:
        stack, host, gateway = args.stack, args.host, args.stack.gateway
        network_name = names.gateway_container(stack)
        network = host.declare(docker.Network, f"{name}-network", parent=self, name=network_name)
        self._network = network
        bodies_name = names.gateway_volume(stack)
        bodies = host.declare(
            docker.Volume,
            f"{name}-bodies",
            parent=self,
            needs=[network],
            before_0_1=False,
            name=bodies_name,
        )
        mounts = [
            (configuration.folder, names.CONFIGURATIONS_MOUNT),
            *((path, path) for path in configuration.mounts),
        ]
        arguments = container(
            stack,
            configuration.container,
            names.GATEWAY,
            image=gateway.image,
            network=network_name,
            alias=names.GATEWAY,
            ports={addresses.GATEWAY_HTTP_PORT: gateway.http, addresses.GATEWAY_GRPC_PORT: gateway.grpc},
            bind=gateway.bind,
            capabilities=_CAPABILITIES,
            # Workers finish what they are doing before they end. Not for long: meanwhile nginx takes no
            # connections.
            stop_signal="SIGQUIT",
            stop_seconds=_STOP_SECONDS,
            command=["nginx", "-c", names.mounted_nginx_conf(), "-g", "daemon off;"],
            sysctls=_SYSCTLS,
            healthcheck=healthcheck(["sh", "-c", _healthy(stack)], start_seconds=10),
            hosts=[docker.ContainerHostArgs(host=DOCKER_HOST, ip="host-gateway")],
            mounts=[
                docker.ContainerMountArgs(type="bind", source=source, target=target, read_only=True)
                for source, target in mounts
            ]
            + [docker.ContainerMountArgs(type="volume", source=bodies_name, target=Paths().temp)],
            # Its pid file.
            writable=["/run"],
        )
        return host.declare(
            docker.Container,
            name,
            parent=self,
            needs=[network, bodies, configured],
            delete_before_replace=True,
            **arguments,
        )

    def _answers(
        self, name: str, args: GatewayArgs, nginx: docker.Container, configured: command.local.Command
    ) -> pulumi.Resource:
        """Declares the step that waits until the gateway answers, after each of its changes."""
        entrance = Entrance(
            gateway=args.stack.gateway.name,
            connection=args.host.connection,
            container=names.gateway_container(args.stack),
            url=f"{own_url(args.stack)}/health",
            options=curl_options(args.stack),
            timeout=_ANSWER_SECONDS,
        )
        return args.host.declare(
            command.local.Command,
            f"{name}-answers",
            parent=self,
            needs=[nginx],
            before_0_1=False,
            **step("infra.steps.entrance", "wait", entrance, triggers=[nginx.id, configured.stdout]),
        )


def _healthy(stack: Stack) -> str:
    """A script that asks the gateway's own health, with what its image has."""
    url = f"{stack.gateway.scheme}://{names.LOOPBACK}:{addresses.GATEWAY_HTTP_PORT}/health"
    quiet = ["--fail", "--silent", "--max-time", "4", "--output", "/dev/null"]
    curl = shlex.join(["curl", *quiet, *curl_options(stack), url])
    return f'if command -v curl >/dev/null; then {curl}; else kill -0 "$(cat {Paths().pid})"; fi'
