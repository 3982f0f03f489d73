"""A node of processes on this computer: its addresses, its settings and its models."""

import asyncio
import json
from pathlib import Path
from typing import Any

import yaml

from infra import names
from infra.doctor.host_access import NoAnswer
from infra.doctor.linter import Listing, NotARepository, local
from infra.doctor.sites.node import InUse, NodeSite
from infra.embedded.declarations import node_declaration
from infra.embedded.layout import Layout
from infra.stack import Node, Stack


class EmbeddedNodeSite(NodeSite):
    """The processes of one node."""

    def __init__(self, stack: Stack, node: Node, api_key: str | None, layout: Layout) -> None:
        super().__init__(stack, node, api_key)
        self.declaration = node_declaration(stack, node)
        self.layout = layout
        self.triton_address = f"{names.LOOPBACK}:{node.ports.triton_grpc}"

    @property
    def parts(self) -> list[str]:
        """The parts that have a process, in the order in which they start."""
        return [names.TRITON, names.SERVICE] if self.declaration.triton else [names.SERVICE]

    def program(self, part: str) -> str:
        """The name of the process of one part of the node."""
        return names.process(self.node.name, part)

    def address(self, part: str) -> tuple[str, int]:
        ports = self.node.ports
        return names.LOOPBACK, ports.triton_http if part == names.TRITON else ports.http

    def log(self, part: str) -> str:
        return f"tail -n 50 {self.layout.log(self.program(part))}"

    def start(self, part: str) -> str:
        return self.layout.make("up")

    async def in_use(self) -> InUse:
        """The service's file and environment; before its first start, the declared ones."""
        path = self.layout.node(self.node.name) / names.SETTINGS_FILE_NAME
        if not path.exists():
            return InUse(yaml.safe_dump(self.declaration.service), self.declaration.environment)
        try:
            given = self.launched(self.program(names.SERVICE))["environment"]
            return InUse(path.read_text(encoding="utf-8"), given)
        except OSError as error:
            raise NoAnswer(f"{error.filename}: {error.strerror}") from None

    async def repository(self) -> tuple[str, Listing]:
        assert self.declaration.triton is not None
        folder = self.declaration.triton.repository
        try:
            return folder, await asyncio.to_thread(local, Path(folder))
        except NotARepository as error:
            raise NoAnswer(str(error)) from None

    def launched(self, program: str) -> dict[str, Any]:
        """The specification that a program was last started with. Raises OSError before its first start."""
        content: dict[str, Any] = json.loads(self.layout.specification(program).read_text())
        return content
