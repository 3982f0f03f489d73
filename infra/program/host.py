"""A Docker host as Pulumi drives it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pulumi
import pulumi_docker as docker

from infra.connection import Connection, portable
from infra.program import aliases, leftovers
from infra.program.secrets import concealed
from infra.stack import Host as Address
from infra.stack import Images, SshHost, Stack
from infra.stack.hosts import machine_of

Kind = TypeVar("Kind", bound=pulumi.CustomResource)

TYPE = "gpu-inference:index:Host"

# Triton's image has more than 10 GB; the provider's own limit of 20 minutes takes 70 Mbit/s.
_IMAGE_TIMEOUT = "3h"

# Properties that the Docker provider claims to update in place but does not, or not completely: a change of
# one of them replaces the container.
_REPLACING = [
    "capabilities",
    "deviceRequests",
    "healthcheck",
    "hosts",
    "init",
    "labels",
    "mounts",
    "networksAdvanced",
    "ports",
    "uploads",
]


def label_of(host: Address) -> str:
    """A name for the host: the machine, and the user and port where they are given."""
    if not isinstance(host, SshHost):
        return machine_of(host)
    user = f"{host.user}@" if host.user else ""
    return f"{user}{machine_of(host)}{':22' if host.port == 22 else ''}"


def _logins(images: Images) -> Iterator[tuple[str, str, str]]:
    """The registries that the hosts log in to: name, user and password."""
    if images.registry_host and images.username and images.password:
        yield images.registry_host, images.username, images.password.get_secret_value()
    for login in images.logins:
        yield login.registry, login.username, login.password.get_secret_value()


def dependencies(opts: pulumi.ResourceOptions | None) -> list[pulumi.Resource]:
    """The resources that a component's caller has it wait for; its children wait for them in its place."""
    given: Any = opts.depends_on if opts is not None else None
    return [given] if isinstance(given, pulumi.Resource) else list(given or ())


@dataclass(frozen=True)
class HostArgs:
    """A host's address, and the fleet's settings: how hosts are reached, and the registry of the images."""

    address: Address
    stack: Stack


class Host(pulumi.ComponentResource):
    """A host's Docker daemon, reached through the system's ssh or a local socket."""

    def __init__(self, name: str, args: HostArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(TYPE, name, None, opts)
        self.address = args.address
        self.label = name
        self.machine = machine_of(args.address)
        # Steps run in the project's folder; the provider does in the program's own.
        self.connection = Connection.to(args.address, args.stack.ssh)
        of_provider = Connection.to(args.address, portable(args.stack.ssh))
        self._clear = leftovers.clearing(of_provider, name, args.stack.name)
        registry = [
            docker.ProviderRegistryAuthArgs(
                address=address, username=username, password=pulumi.Output.secret(password)
            )
            for address, username, password in _logins(args.stack.images)
        ]
        before_0_1 = aliases.of_host(docker.Provider, f"{aliases.label(args.address)}-docker")
        # The provider's list of options is JSON by the time that transformations see it.
        options = concealed({"ssh": list(of_provider.options) or None}, args.stack.secrets)["ssh"]
        self.provider = docker.Provider(
            f"docker@{name}",
            host=str(args.address),
            ssh_opts=options,
            registry_auth=registry or None,
            opts=pulumi.ResourceOptions(parent=self, aliases=[before_0_1]),
        )
        self.register_outputs({"address": str(args.address)})

    def declare(
        self,
        kind: type[Kind],
        name: str,
        /,
        *,
        parent: pulumi.Resource,
        needs: Sequence[pulumi.Resource] = (),
        delete_before_replace: bool = False,
        replace_with: Sequence[pulumi.Resource] = (),
        hooks: Sequence[pulumi.ResourceHookBinding | None] = (),
        ignore_changes: Sequence[str] = (),
        replacement_trigger: pulumi.Input[str] | None = None,
        before_0_1: bool = True,
        **arguments: Any,
    ) -> Kind:
        """Declares a resource on this host, after those that it `needs`.

        When one of `replace_with` is replaced, this resource is too, and Pulumi deletes this one first.
        `before_0_1`: it is as old as the releases before 0.1.0, and had another URN there.

        The machine is part of its name. To Pulumi, a provider for another host is the same provider; but what
        moves to another machine must be another resource, which is created there while the old one serves and
        is deleted last. A move that fails has deleted nothing.
        """
        former = [aliases.on_host(self.address, parent, kind, name)] if before_0_1 else []
        options = pulumi.ResourceOptions.merge(
            self._options(kind, parent, needs, former),
            pulumi.ResourceOptions(
                delete_before_replace=delete_before_replace,
                replace_with=list(replace_with),
                ignore_changes=list(ignore_changes),
                replacement_trigger=replacement_trigger,
            ),
        )
        for each in hooks:
            options = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(hooks=each))
        return kind(f"{name}@{self.machine}", **arguments, opts=options)

    def declare_image(
        self,
        kind: type[Kind],
        name: str,
        formerly: str | None,
        needs: Sequence[pulumi.Resource] = (),
        /,
        **arguments: Any,
    ) -> Kind:
        """Declares an image on this host, for all nodes there; `formerly`: its name before 0.1.0."""
        options = self._options(
            kind, self, needs, [aliases.of_host(kind, formerly)] if formerly is not None else []
        )
        options.custom_timeouts = pulumi.CustomTimeouts(create=_IMAGE_TIMEOUT, update=_IMAGE_TIMEOUT)
        return kind(f"{name}@{self.label}", **arguments, opts=options)

    def _options(
        self,
        kind: type[pulumi.CustomResource],
        parent: pulumi.Resource,
        needs: Sequence[pulumi.Resource],
        former: Sequence[str],
    ) -> pulumi.ResourceOptions:
        is_docker = kind.__module__.startswith(docker.__name__)
        return pulumi.ResourceOptions(
            parent=parent,
            depends_on=list(needs),
            provider=self.provider if is_docker else None,
            replace_on_changes=_REPLACING if kind is docker.Container else None,
            aliases=list(former),
            hooks=self._clear if kind in (docker.Container, docker.Network) else None,
        )
