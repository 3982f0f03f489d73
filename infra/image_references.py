"""The references of a stack's images. The tag of an image that is built is the digest of the build's content.

A change of the content changes the reference, so a preview shows it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from pathspec import PathSpec

from infra import names
from infra.digest import digest
from infra.stack import Build, EdgeLlmPart, Node, Service, Stack, Triton

PREFIX = "gpu-inference"


class ContextError(ValueError):
    """A build's context or Dockerfile does not exist."""


def settings_of(stack: Stack, node: Node) -> dict[str, Triton | EdgeLlmPart | Service]:
    """The settings of each of a node's containers, by part, in the order in which they start."""
    edge = stack.edge_llm
    runtimes: dict[str, dict[str, Triton | EdgeLlmPart | Service]] = {
        "triton": {names.TRITON: stack.triton},
        "edge-llm": {names.UNIT_MANAGER: edge.unit_manager, names.LLM_NODE: edge.llm_node},
    }
    return {**runtimes.get(node.runtime, {}), names.SERVICE: stack.service}


def pids_limits(stack: Stack, node: Node) -> dict[str, int]:
    """The limits of processes and threads of a node's containers, by the container's name."""
    return {
        names.container(stack, node, part): settings.pids_limit
        for part, settings in settings_of(stack, node).items()
        if settings.pids_limit is not None
    }


def sources(stack: Stack, node: Node) -> dict[str, str | Build]:
    """The image or the build of each of a node's containers, by part, in the order in which they start."""
    # Triton and the service have defaults; the stack's rules require the images of an Edge-LLM node.
    return {
        part: source
        for part, settings in settings_of(stack, node).items()
        if (source := service_source(stack) if part == names.SERVICE else settings.source) is not None
    }


def service_source(stack: Stack) -> str | Build | None:
    """The image or the build of the service. This project's own has the extra otel if there are traces."""
    source = stack.service.source
    if stack.traces.endpoint is None or not stack.service.own or not isinstance(source, Build):
        return source
    return source.model_copy(update={"args": {"REQUIREMENTS": "service-otel", **source.args}})


class ImageReferences:
    """The references of a stack's images. Each build's content is read once."""

    def __init__(self, stack: Stack) -> None:
        self._repository = stack.images.registry or PREFIX
        self._references: dict[str, str] = {}

    @property
    def known(self) -> dict[str, str]:
        """The references that were asked for, by part."""
        return dict(self._references)

    def reference(self, part: str, source: str | Build) -> str:
        """The reference in the stack file, or the one that the content of the build gives.

        Raises ContextError.
        """
        if part not in self._references:
            self._references[part] = (
                source if isinstance(source, str) else f"{self._repository}/{part}:{content_tag(source)}"
            )
        return self._references[part]


def content_tag(build: Build) -> str:
    """The digest of all that an image is built from: Dockerfile, arguments, and the files that Docker gets.

    Raises ContextError.
    """
    context = build.base / build.context
    dockerfile = context / build.dockerfile
    if not context.is_dir():
        raise ContextError(f"there is no build context {build.context}")
    if not dockerfile.is_file():
        raise ContextError(f"there is no Dockerfile {build.dockerfile} in {build.context}")
    arguments = [f"{name}={value}" for name, value in sorted(build.args.items())]
    return digest([("Dockerfile", dockerfile), *context_files(context, dockerfile)], *arguments)


def context_files(context: Path, dockerfile: Path) -> Iterator[tuple[str, Path]]:
    """The files that Docker would be sent, by their path in the context, sorted.

    `<Dockerfile>.dockerignore`, or else `.dockerignore`, leaves files out.
    """
    patterns = _ignored_patterns(context, dockerfile)
    ignored = PathSpec.from_lines("gitignore", patterns)
    exceptions = [pattern[2:] for pattern in patterns if pattern.startswith("!")]

    def walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                # Folders such as virtual environments are large: do not walk what is left out altogether.
                if not ignored.match_file(name) or any(_reaches(each, f"{name}/") for each in exceptions):
                    yield from walk(Path(entry.path), f"{name}/")
            elif not ignored.match_file(name):
                yield name, Path(entry.path)

    yield from walk(context, "")


def _ignored_patterns(context: Path, dockerfile: Path) -> list[str]:
    """The patterns of the .dockerignore, each as two of a .gitignore.

    In both kinds of files the last match decides. But Docker's patterns start at the context's root, also
    those without a slash; they match files where they end in a slash; and each matches what is in a folder
    that it matches.
    """
    own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    file = own if own.is_file() else context / ".dockerignore"
    patterns = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        pattern = line.strip()
        if pattern and not pattern.startswith("#"):
            exception = "!" if pattern.startswith("!") else ""
            path = pattern.removeprefix("!").strip().strip("/")
            patterns += [f"{exception}/{path}", f"{exception}/{path}/**"]
    return patterns


def _reaches(exception: str, folder: str) -> bool:
    """Whether an exception may match something in an ignored folder."""
    return exception.startswith(folder) or any(sign in exception for sign in "*?[")
