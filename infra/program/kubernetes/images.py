"""The images that are built for a cluster: by Docker on this computer, pushed to the stack's registry."""

import pulumi
import pulumi_docker as docker

from infra.kubernetes.images import builds
from infra.program.image_build import build_args, push_login
from infra.stack import Stack


def built(stack: Stack, references: dict[str, str], parent: pulumi.Resource) -> list[pulumi.Resource]:
    """Declares the images that the stack builds; its pods need them."""
    images = stack.images
    return [
        docker.Image(
            f"{part}-image",
            image_name=references[part],
            registry=push_login(images),
            build=build_args(build, images),
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for part, build in builds(stack).items()
    ]
