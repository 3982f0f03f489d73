"""The images of a stack as Pulumi resources: built or pulled on the hosts, or built once and pushed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pulumi
import pulumi_docker as docker

from infra.image_references import ImageReferences
from infra.paths import here
from infra.program.host import DockerHost
from infra.stack import Build, Stack


@dataclass(frozen=True)
class HostImage:
    """An image on a host: its reference, and what has to be done before it can be used there."""

    reference: str
    needs: list[pulumi.Resource] = field(default_factory=list)


class Images:
    """The images of a stack, each built once for every host, or once and pushed where there is a registry."""

    def __init__(self, stack: Stack, builder: DockerHost | None) -> None:
        """`builder` is the host that builds what is pushed to the registry."""
        self._stack = stack
        self._builder = builder
        self._made: dict[tuple[str, str], HostImage] = {}
        self._pushed: dict[str, docker.Image | None] = {}
        self._references = ImageReferences(stack)

    @property
    def tags(self) -> dict[str, str]:
        """The references in use, by the name of the part."""
        return self._references.known

    def on(self, host: DockerHost, part: str, source: str | Build) -> HostImage:
        """The image of a part, for the containers of one host."""
        reference = self._references.reference(part, source)
        if (part, host.label) not in self._made:
            made = self._made_on(host, part, reference, source)
            self._made[part, host.label] = HostImage(reference, [made] if made is not None else [])
        return self._made[part, host.label]

    def _made_on(
        self, host: DockerHost, part: str, reference: str, source: str | Build
    ) -> pulumi.Resource | None:
        if isinstance(source, str):
            return self._pulled(host, part, reference, [])
        if self._stack.images.registry is None or self._builder is None:
            return self._image(host, part, reference, source, pushed=False)
        if part not in self._pushed:
            self._pushed[part] = self._image(self._builder, part, reference, source, pushed=True)
        return self._pulled(host, part, reference, [self._pushed[part]])

    def _pulled(
        self, host: DockerHost, part: str, reference: str, needs: list[pulumi.Resource | None]
    ) -> docker.RemoteImage | None:
        """Has the host pull an image, where it is not there, before any container waits for it.

        Containers name the reference and not what it resolved to: another digest does not replace them.
        """
        return host.declare(
            docker.RemoteImage,
            f"{host.label}-{part}-image",
            parent=host,
            needs=needs,
            name=reference,
            keep_locally=True,
        )

    def _image(
        self, host: DockerHost, part: str, reference: str, build: Build, pushed: bool
    ) -> docker.Image | None:
        images = self._stack.images
        registry = None
        if pushed and images.username is not None:
            registry = docker.RegistryArgs(
                server=(images.registry or "").split("/")[0],
                username=images.username,
                password=pulumi.Output.secret(images.password.get_secret_value())
                if images.password
                else None,
            )
        return host.declare(
            docker.Image,
            f"{part}-image-pushed" if pushed else f"{host.label}-{part}-image",
            parent=host,
            image_name=reference,
            skip_push=not pushed,
            registry=registry,
            build=docker.DockerBuildArgs(
                context=here(build.context, build.base),
                dockerfile=here(Path(build.context) / build.dockerfile, build.base),
                args=build.args or None,
                platform=images.platform,
            ),
        )
