"""A Docker host as Pulumi drives it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import pulumi
import pulumi_docker as docker

from infra.connection import Connection
from infra.paths import here
from infra.stack import Host, Ssh, SshHost, Stack
from infra.update.state import Deployed

Kind = TypeVar("Kind", bound=pulumi.CustomResource)


# What the provider would note as updated in place, wholly or in parts, and leave as it is on the host.
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


def label_of(host: Host) -> str:
    """A name for the host among Pulumi's resources."""
    return _slug(str(host).split("//")[-1])


def portable(ssh: Ssh) -> Ssh:
    """The SSH settings with paths of the project as the program and the providers find them."""
    paths = {
        name: here(path)
        for name in ("known_hosts", "private_key_file", "config_file")
        if (path := getattr(ssh, name)) is not None
    }
    return ssh.model_copy(update=paths)


def machine_of(host: Host) -> str:
    """A name for the machine, which does not depend on the user: another user's Docker is the same one."""
    if isinstance(host, SshHost):
        return _slug(host.address if host.port in (None, 22) else f"{host.address}-{host.port}")
    return label_of(host)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class DockerHost(pulumi.ComponentResource):
    """A host's Docker daemon, reached as the stack says: through the system's ssh, or a local socket.

    Everything on the host is declared through `declare`. On a host that is out of reach that leaves what is
    in the state exactly as it stands, and creates nothing.
    """

    def __init__(self, host: Host, stack: Stack, deployed: Deployed | None = None) -> None:
        """`deployed` is given for a host that is out of reach: the resources in the stack's state."""
        self.label = label_of(host)
        super().__init__("gpu-inference:index:Host", self.label)
        self.host = host
        # Steps run in the project's folder; the provider does in the program's own.
        self.connection = Connection.to(host, stack.ssh)
        of_provider = Connection.to(host, portable(stack.ssh))
        self._deployed = deployed
        images = stack.images
        registry = None
        if images.registry and images.username and images.password:
            registry = [
                docker.ProviderRegistryAuthArgs(
                    address=images.registry.split("/")[0],
                    username=images.username,
                    password=pulumi.Output.secret(images.password.get_secret_value()),
                )
            ]
        self._provider = self._declared(
            docker.Provider,
            f"{self.label}-docker",
            pulumi.ResourceOptions(parent=self),
            {"host": str(host), "ssh_opts": list(of_provider.options) or None, "registry_auth": registry},
        )
        self.register_outputs({})

    @property
    def reachable(self) -> bool:
        """Whether the host answered before this update."""
        return self._deployed is None

    def component(self, name: str) -> str:
        """The type of a component on this host.

        Pulumi takes a provider for another host as the same one, but it knows a resource by the types of its
        parents. So what moves to another machine is another resource: it is made there while the one before
        serves, and that is deleted when all else is done. A move that fails has deleted nothing.
        """
        return f"gpu-inference:at-{machine_of(self.host)}:{name}"

    def declare(
        self,
        kind: type[Kind],
        name: str,
        /,
        *,
        parent: pulumi.Resource,
        needs: Sequence[pulumi.Resource | None] = (),
        delete_before_replace: bool = False,
        **arguments: Any,
    ) -> Kind | None:
        """A resource on this host, after those that it `needs`.

        None when the host is out of reach and the resource was never made.
        """
        is_docker = kind.__module__.startswith(docker.__name__)
        options = pulumi.ResourceOptions(
            parent=parent,
            depends_on=[needed for needed in needs if needed is not None],
            delete_before_replace=delete_before_replace,
            provider=self._provider if is_docker else None,
            replace_on_changes=_REPLACING if kind is docker.Container else None,
        )
        return self._declared(kind, name, options, arguments)

    def _declared(
        self, kind: type[Kind], name: str, options: pulumi.ResourceOptions, arguments: dict[str, Any]
    ) -> Kind | None:
        if self._deployed is not None:
            if not self._deployed.has(kind, name, options.parent):
                return None
            options = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(ignore_changes=["*"]))
        return kind(name, **arguments, opts=options)
