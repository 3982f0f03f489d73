"""A node's models: on the host already, copied there, or in an object store that Triton reads itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.models.files import versions
from infra.paths import for_step, project_path
from infra.program.command import step
from infra.program.host import DockerHost
from infra.stack import Node, Stack
from infra.steps.models import Copy, InUse
from infra.triton_arguments import models_in_use


class NodeModels(pulumi.ComponentResource):
    """One node's models. Copies run on all hosts at once; what a node serves changes in its turn only."""

    def __init__(self, stack: Stack, node: Node, host: DockerHost, parent: pulumi.Resource) -> None:
        options = pulumi.ResourceOptions(parent=parent)
        super().__init__(host.component("Models"), f"{node.name}-models", opts=options)
        self._stack, self._node, self._host = stack, node, host
        self._root = names.models_folder(stack, node)
        self.synced = stack.models.source == "sync" and node.runtime != "remote"
        self.versions = versions(project_path(stack.models.path)) if self.synced else {}
        self._copies = [self._copy(name, version) for name, version in self.versions.items()]
        self.register_outputs({"versions": self.versions})

    @property
    def copies(self) -> Sequence[pulumi.Resource | None]:
        """The copies on the node's host."""
        return self._copies

    def _copy(self, name: str, version: str) -> pulumi.Resource | None:
        copy = Copy(
            connection=self._host.connection,
            root=self._root,
            source=for_step(Path(self._stack.models.path) / name),
            model=name,
            version=version,
        )
        return self._host.declare(
            command.local.Command,
            f"{self._node.name}-model-{name}",
            parent=self,
            **step("infra.steps.models", "copy", copy),
        )

    def activate(self, needs: Sequence[pulumi.Resource | None]) -> command.local.Command | None:
        """Switches the node to the copied versions, after `needs`; a running Triton loads what changed."""
        if not self.synced:
            return None
        stack, node = self._stack, self._node
        in_use = InUse(
            connection=self._host.connection,
            root=self._root,
            node=node.name,
            models=self.versions,
            service=names.container(stack, node, names.SERVICE),
            triton=names.container(stack, node, names.TRITON) if node.runtime == "triton" else None,
            loads=models_in_use(stack),
        )
        return self._host.declare(
            command.local.Command,
            f"{self._node.name}-models-in-use",
            parent=self,
            needs=[*self._copies, *needs],
            # In another folder they are made anew, and then the folder before is removed.
            **step("infra.steps.models", "activate", in_use, delete="remove", triggers=[self._root]),
        )

    def mounts(self, target: str) -> list[docker.ContainerMountArgs]:
        """What makes the models visible at `target` in a container, read-only."""
        if self._stack.models.object_store or self._node.runtime == "remote":
            return []
        if not self.synced:
            return [_read_only(self._stack.models.path, target)]
        # The repository's entries are links to the store beside it.
        store = str(PurePosixPath(target).parent / names.STORE)
        return [
            _read_only(f"{self._root}/{names.REPOSITORY}", target),
            _read_only(f"{self._root}/{names.STORE}", store),
        ]


def _read_only(source: str, target: str) -> docker.ContainerMountArgs:
    return docker.ContainerMountArgs(type="bind", source=source, target=target, read_only=True)
