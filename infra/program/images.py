"""Images by content: the tag is the hash of what an image is built from, so a change shows in preview."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pulumi
import pulumi_docker as docker

from infra.paths import PROJECT, here
from infra.program.host import DockerHost
from infra.stack import Build, Stack

_TAG_LENGTH = 16
PREFIX = "gpu-inference"


class ContextError(ValueError):
    """A build context that is not there."""


def context_files(context: Path, dockerfile: Path) -> Iterator[tuple[str, Path]]:
    """The files that Docker would be sent, by their path in the context, sorted.

    `<Dockerfile>.dockerignore`, or else `.dockerignore`, leaves files out.
    """
    rules = _ignore_rules(context, dockerfile)

    def walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            ignored = _ignored(name, rules)
            if entry.is_dir(follow_symlinks=False):
                if not ignored or _may_hold_exceptions(name, rules):
                    yield from walk(Path(entry.path), f"{name}/")
            elif not ignored:
                yield name, Path(entry.path)

    yield from walk(context, "")


def context_hash(build: Build, base: Path = PROJECT) -> str:
    """A digest of all that decides what `build` makes: its files, their modes, the Dockerfile, the arguments.

    Raises ContextError naming the folder or Dockerfile that is not there.
    """
    context = base / build.context
    dockerfile = context / build.dockerfile
    if not context.is_dir():
        raise ContextError(f"there is no build context {build.context}")
    if not dockerfile.is_file():
        raise ContextError(f"there is no Dockerfile {build.dockerfile} in {build.context}")
    digest = hashlib.sha256(b"1\0")
    for name, value in sorted(build.args.items()):
        digest.update(f"{name}={value}\0".encode())
    digest.update(_file_digest(dockerfile))
    for name, path in context_files(context, dockerfile):
        if path.is_symlink():
            digest.update(f"{name}\0-> {path.readlink()}\0".encode())
        else:
            executable = "x" if os.access(path, os.X_OK) else "-"
            digest.update(f"{name}\0{executable}\0".encode() + _file_digest(path))
    return digest.hexdigest()[:_TAG_LENGTH]


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _ignore_rules(context: Path, dockerfile: Path) -> list[tuple[bool, str, re.Pattern[str]]]:
    own = dockerfile.with_name(f"{dockerfile.name}.dockerignore")
    file = own if own.is_file() else context / ".dockerignore"
    if not file.is_file():
        return []
    rules = []
    for line in file.read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        exception = pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip().strip("/")
        rules.append((exception, pattern, _pattern(pattern)))
    return rules


def _pattern(pattern: str) -> re.Pattern[str]:
    """A dockerignore pattern, which a folder's contents match too."""
    text = ""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]*\])", pattern)
    for part in parts:
        text += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part) or (
            part.replace("[^", "[^/") if part.startswith("[") else re.escape(part)
        )
    return re.compile(rf"{text}(?:/.*)?")


def _ignored(name: str, rules: Sequence[tuple[bool, str, re.Pattern[str]]]) -> bool:
    ignored = False
    for exception, _, pattern in rules:
        if pattern.fullmatch(name):
            ignored = not exception
    return ignored


def _may_hold_exceptions(folder: str, rules: Sequence[tuple[bool, str, re.Pattern[str]]]) -> bool:
    return any(
        exception and (pattern.startswith(f"{folder}/") or any(sign in pattern for sign in "*?["))
        for exception, pattern, _ in rules
    )


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
        self._tags: dict[str, str] = {}

    @property
    def tags(self) -> dict[str, str]:
        """The references in use, by the name of the part."""
        return dict(self._tags)

    def reference(self, part: str, source: str | Build) -> str:
        """The image's reference: the one given, or the one that the content of its build gives it.

        Raises ContextError.
        """
        if part not in self._tags:
            if isinstance(source, str):
                self._tags[part] = source
            else:
                repository = self._stack.images.registry or PREFIX
                self._tags[part] = f"{repository}/{part}:{context_hash(source)}"
        return self._tags[part]

    def on(self, host: DockerHost, part: str, source: str | Build) -> HostImage:
        """The image of a part, for the containers of one host."""
        reference = self.reference(part, source)
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
                context=here(build.context),
                dockerfile=here(str(Path(build.context) / build.dockerfile)),
                args=build.args or None,
                platform=images.platform,
            ),
        )
