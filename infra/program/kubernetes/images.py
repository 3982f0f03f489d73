"""The images that are built for a cluster: by Docker on this computer, pushed to the stack's registry."""

from pathlib import Path

import pulumi
import pulumi_docker as docker

from infra.kubernetes.images import builds
from infra.paths import here
from infra.stack import Stack


def built(stack: Stack, references: dict[str, str], parent: pulumi.Resource) -> list[pulumi.Resource]:
    """Declares the images that the stack builds; its pods need them."""
    images = stack.images
    registry = None
    if images.username is not None:
        registry = docker.RegistryArgs(
            server=(images.registry or "").split("/")[0],
            username=images.username,
            password=pulumi.Output.secret(images.password.get_secret_value()) if images.password else None,
        )
    return [
        docker.Image(
            f"{part}-image",
            image_name=references[part],
            registry=registry,
            build=docker.DockerBuildArgs(
                context=here(build.context, build.base),
                dockerfile=here(Path(build.context) / build.dockerfile, build.base),
                args=build.args or None,
                platform=images.platform,
            ),
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for part, build in builds(stack).items()
    ]
