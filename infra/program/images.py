"""The images of a stack as Pulumi resources: built or pulled on the hosts, or built once and pushed."""

from dataclasses import dataclass, field
from pathlib import Path

import pulumi
import pulumi_docker as docker

from infra.image_references import ImageReferences
from infra.paths import here
from infra.program import aliases
from infra.program.host import Host
from infra.stack import Build, Stack


@dataclass(frozen=True)
class HostImage:
    """An image on a host: its reference, and what has to be done before it can be used there."""

    reference: str
    needs: list[pulumi.Resource] = field(default_factory=list)


class Images:
    """The images of a stack, each built once for every host, or once and pushed where there is a registry."""

    def __init__(self, stack: Stack, builder: Host | None) -> None:
        """`builder` is the host that builds what is pushed to the registry."""
        self._stack = stack
        self._builder = builder
        self._made: dict[tuple[str, str], HostImage] = {}
        self._pushed: dict[str, docker.Image] = {}
        self._references = ImageReferences(stack)

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
        if self._stack.images.registry is None or self._builder is None:
            return self._built(host, part, reference, source, pushed=False)
        if part not in self._pushed:
            self._pushed[part] = self._built(self._builder, part, reference, source, pushed=True)
        return self._pulled(host, part, reference, [self._pushed[part]])

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
        registry = None
        if pushed and images.username is not None:
            registry = docker.RegistryArgs(
                server=(images.registry or "").split("/")[0],
                username=images.username,
                password=pulumi.Output.secret(images.password.get_secret_value())
                if images.password
                else None,
            )
        return host.declare_image(
            docker.Image,
            f"{part}-image-pushed" if pushed else f"{part}-image",
            f"{part}-image-pushed" if pushed else f"{aliases.label(host.address)}-{part}-image",
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
