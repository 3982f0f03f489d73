"""The build of an image in the arguments of components: the keys of a stack file in snake case."""

from collections.abc import Mapping
from typing import NotRequired, TypedDict


class Build(TypedDict):
    """An image built from a folder; `args` without a context apply to this project's own build."""

    context: NotRequired[str]
    """The build context, relative to the project."""
    dockerfile: NotRequired[str]
    """The Dockerfile, relative to the context."""
    args: NotRequired[Mapping[str, str]]
    """Build arguments, e.g. BASE_IMAGE if the hosts cannot pull the public base image."""
