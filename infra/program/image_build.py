"""What Docker is told of an image that is built from a folder on this computer, for a host or a cluster."""

from pathlib import Path

import pulumi
import pulumi_docker as docker

from infra.paths import here
from infra.stack import Build, Images


def build_args(build: Build, images: Images) -> docker.DockerBuildArgs:
    """The folder, the Dockerfile and its arguments."""
    return docker.DockerBuildArgs(
        context=here(build.context, build.base),
        dockerfile=here(Path(build.context) / build.dockerfile, build.base),
        args=build.args or None,
        platform=images.platform,
    )


def push_login(images: Images) -> docker.RegistryArgs | None:
    """The login of the registry that built images are pushed to; None where the stack names none."""
    if images.username is None:
        return None
    password = images.password
    return docker.RegistryArgs(
        server=images.registry_host or "",
        username=images.username,
        password=pulumi.Output.secret(password.get_secret_value()) if password else None,
    )
