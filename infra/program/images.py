"""The images of a stack as Pulumi resources: pulled, or built once and copied, or built once and pushed."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.connection import Connection
from infra.declaration import DeclarationError, from_json
from infra.image_references import ImageReferences, settings_of
from infra.program import aliases
from infra.program.command import step
from infra.program.host import Host, label_of
from infra.program.image_build import build_args, push_login
from infra.stack import Build, Stack
from infra.stack import Host as Address
from infra.steps.images import ImageCopy
from infra.update.prepare import Away


@dataclass(frozen=True)
class HostImage:
    """An image on a host: its reference, and what has to be done before it can be used there."""

    reference: str
    needs: list[pulumi.Resource] = field(default_factory=list)


class Images:
    """The images of a stack, each built once: on the first host, or for the registry where there is one."""

    def __init__(self, stack: Stack, builder: Host | None, away: Away | None = None) -> None:
        """`builder` is the host that builds what is pushed to the registry.

        `away` are the hosts that cannot be reached, with the stack's state.
        """
        self._stack = stack
        self._builder = builder
        self._made: dict[tuple[str, str], HostImage] = {}
        self._built_once: dict[str, docker.Image] = {}
        self._references = ImageReferences(stack)
        self._held = set(_held(away.resources)) if away is not None else set()
        self._away = away.hosts if away is not None else frozenset()

    @property
    def tags(self) -> dict[str, str]:
        """The references in use, by the name of the part."""
        return self._references.known

    def on(self, host: Host, part: str, source: str | Build) -> HostImage:
        """The image of a part, for the containers of one host."""
        reference = self._references.reference(part, source)
        if (part, host.label) not in self._made:
            self._made[part, host.label] = HostImage(
                reference, [self._made_on(host, part, reference, source)]
            )
        return self._made[part, host.label]

    def _made_on(self, host: Host, part: str, reference: str, source: str | Build) -> pulumi.Resource:
        if isinstance(source, str):
            return self._pulled(host, part, reference, [])
        if self._stack.images.registry is not None and self._builder is not None:
            if part not in self._built_once:
                self._built_once[part] = self._built(self._builder, part, reference, source, pushed=True)
            return self._pulled(host, part, reference, [self._built_once[part]])
        if self._stack.images.build == "everywhere":
            return self._built(host, part, reference, source, pushed=False)
        return self._shared(host, part, reference, source)

    def _shared(self, host: Host, part: str, reference: str, source: Build) -> pulumi.Resource:
        """Built on the first host that needs the image, copied from there to the others.

        While that host is away, what others have is not built again: they keep it, and give it to new ones.
        """
        hosts = self._hosts(part)
        first = hosts[0]
        if host.address == first:
            self._built_once[part] = self._built(host, part, reference, source, pushed=False)
            return self._built_once[part]
        near = [each for each in hosts if each not in self._away]
        holders = [each for each in near if (label_of(each), reference) in self._held]
        if first not in self._away or host.address in holders:
            giver = first
        elif holders:
            giver = holders[0]
        elif host.address == near[0]:
            self._built_once[part] = self._built(host, part, reference, source, pushed=False)
            return self._built_once[part]
        else:
            giver = near[0]
        needs = [self._built_once[part]] if part in self._built_once else []
        copy = ImageCopy(
            reference=reference, source=Connection.to(giver, self._stack.ssh), target=host.connection
        )
        return host.declare_image(
            command.local.Command, f"{part}-image", None, needs, **step("infra.steps.images", "copy", copy)
        )

    def _hosts(self, part: str) -> list[Address]:
        """The Docker hosts that need the image of a part, in the order of the stack file."""
        if part == names.KEEPALIVED:
            return list(dict.fromkeys(self._stack.gateway.hosts))
        nodes = [each for each in self._stack.nodes if not each.embedded]
        needing = [each.host for each in nodes if part in settings_of(self._stack, each)]
        if part == names.SERVICE and self._stack.console is not None:
            # The console runs in the service's image.
            needing += [
                each.host for each in self._stack.gateway.each if self._stack.gateway.mode == "container"
            ]
        return list(dict.fromkeys(needing))

    def _pulled(
        self, host: Host, part: str, reference: str, needs: list[pulumi.Resource]
    ) -> docker.RemoteImage:
        """Has the host pull an image that it lacks, before any container waits for it.

        Containers name the reference, not the digest that it resolved to: a new digest does not replace them.
        """
        return host.declare_image(
            docker.RemoteImage,
            f"{part}-image",
            f"{aliases.label(host.address)}-{part}-image",
            needs,
            name=reference,
            keep_locally=True,
        )

    def _built(self, host: Host, part: str, reference: str, build: Build, pushed: bool) -> docker.Image:
        images = self._stack.images
        return host.declare_image(
            docker.Image,
            f"{part}-image-pushed" if pushed else f"{part}-image",
            f"{part}-image-pushed" if pushed else f"{aliases.label(host.address)}-{part}-image",
            image_name=reference,
            skip_push=not pushed,
            registry=push_login(images) if pushed else None,
            build=build_args(build, images),
        )


def _held(resources: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The label of each host and each built image that a stack's state has there."""
    for each in resources:
        kind, inputs = each["type"], each.get("inputs", {})
        label = each["urn"].split("::", 3)[3].partition("@")[2]
        if kind == "docker:index/image:Image":
            yield label, str(inputs.get("imageName"))
        elif kind == "command:local:Command" and "-image@" in each["urn"]:
            with contextlib.suppress(DeclarationError):
                yield label, from_json(str(inputs.get("stdin")), ImageCopy).reference
