"""A node's models: on the host already, copied there, or in an object store that Triton reads itself."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_docker as docker

from infra import names
from infra.connection import Connection
from infra.models.backends import needs_of
from infra.models.files import versions
from infra.paths import for_step, project_path
from infra.program import differences
from infra.program.command import step
from infra.program.host import Host
from infra.stack import Node, Stack
from infra.steps.models import Copy, InUse
from infra.triton_arguments import models_in_use
from infra.update.written import ModelDifferences
from infra.update.written.models import copied


@dataclass(frozen=True)
class NodeModelsArgs:
    """The node whose models are copied, its host, and the differences from what was copied there."""

    stack: Stack
    node: Node
    host: Host
    differences: ModelDifferences = field(default_factory=ModelDifferences)


class NodeModels(pulumi.ComponentResource):
    """The copies of one node's models on its host, made beside the versions that the node serves."""

    def __init__(self, name: str, args: NodeModelsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-inference:index:NodeModels", name, None, opts)
        self._args = args
        stack, node = args.stack, args.node
        #: The folder on the host that models are copied to.
        self.root = names.models_folder(stack, node)
        self.synced = copied(stack, node)
        self.versions = versions(project_path(stack.models.path)) if self.synced else {}
        #: The models in use for which Triton builds TensorRT engines at their first load; unknown on hosts.
        self.building_engines = self._building_engines()
        self.copies = [self._copy(model, version) for model, version in self.versions.items()]
        self.register_outputs({"versions": self.versions})

    def _copy(self, model: str, version: str) -> pulumi.Resource:
        declaration = Copy(
            connection=self._args.host.connection,
            root=self.root,
            source=for_step(Path(self._args.stack.models.path) / model),
            model=model,
            version=version,
        )
        found = self._args.differences
        reasons = found.reasons if model in found.copies else ()
        return self._args.host.declare(
            command.local.Command,
            f"{self._args.node.name}-model-{model}",
            parent=self,
            ignore_changes=differences.ignored(reasons),
            **step("infra.steps.models", "copy", declaration, environment=differences.environment(reasons)),
        )

    def _building_engines(self) -> tuple[str, ...]:
        stack = self._args.stack
        if not self.synced or not self._args.node.wants_gpus:
            return ()
        loads = models_in_use(stack, self._args.node)
        repository = project_path(stack.models.path)
        used = [model for model in self.versions if loads is None or model in loads]
        return tuple(model for model in used if needs_of(repository / model).builds_engines)

    def activation(self) -> dict[str, Any]:
        """The arguments of the `local.Command` that switches the node to the copied versions.

        A running Triton loads the models that changed.
        """
        declaration = self.in_use(self._args.host.connection, self.versions)
        # A change of the folder replaces the resource, and the deletion removes the former folder.
        return step("infra.steps.models", "activate", declaration, delete="remove", triggers=[self.root])

    def in_use(self, connection: Connection, versions: dict[str, str]) -> InUse:
        """The declaration that the node serves these versions."""
        stack, node = self._args.stack, self._args.node
        return InUse(
            connection=connection,
            root=self.root,
            node=node.name,
            models=versions,
            service=names.container(stack, node, names.SERVICE),
            triton=names.container(stack, node, names.TRITON) if node.runtime == "triton" else None,
            loads=models_in_use(stack, node),
        )

    def mounts(self, target: str) -> list[docker.ContainerMountArgs]:
        """What makes the models visible at `target` in a container, read-only."""
        stack, node = self._args.stack, self._args.node
        if stack.models.object_store or node.runtime == "remote":
            return []
        if not self.synced:
            return [_read_only(stack.models.path, target)]
        # The repository's entries are links to the store beside it.
        store = str(PurePosixPath(target).parent / names.STORE)
        return [
            _read_only(f"{self.root}/{names.REPOSITORY}", target),
            _read_only(f"{self.root}/{names.STORE}", store),
        ]


def _read_only(source: str, target: str) -> docker.ContainerMountArgs:
    return docker.ContainerMountArgs(type="bind", source=source, target=target, read_only=True)
