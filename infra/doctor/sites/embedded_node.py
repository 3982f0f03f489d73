"""A node of processes on this computer: its addresses, its settings and its models."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import yaml

from infra import names
from infra.doctor.host_access import NoAnswer
from infra.doctor.linter import Listing, NotARepository, local
from infra.doctor.sites.node import InUse
from infra.doctor.web import HttpServer
from infra.embedded.declarations import NodeDeclaration
from infra.embedded.layout import Layout
from infra.stack import Node


class EmbeddedNodeSite:
    """The processes of one node."""

    access = None

    def __init__(self, node: Node, declaration: NodeDeclaration, layout: Layout) -> None:
        self.node = node
        self.where = (node.name,)
        self.declaration = declaration
        self.layout = layout
        self.triton_address = f"{names.LOOPBACK}:{node.ports.triton_grpc}"
        self.triton_log = f"tail -n 50 {layout.log(names.process(node.name, names.TRITON))}"
        self.service_log = f"tail -n 50 {layout.log(names.process(node.name, names.SERVICE))}"
        self.triton_start = self.service_start = layout.make("up")

    @property
    def programs(self) -> list[str]:
        """The names of the node's processes, in the order in which they start."""
        parts = [names.TRITON, names.SERVICE] if self.declaration.triton else [names.SERVICE]
        return [names.process(self.node.name, part) for part in parts]

    def service(self) -> HttpServer:
        """The service's HTTP API."""
        return HttpServer(names.LOOPBACK, self.node.ports.http)

    def triton(self) -> HttpServer:
        """Triton's HTTP API."""
        return HttpServer(names.LOOPBACK, self.node.ports.triton_http)

    def unit_manager(self) -> tuple[str, int]:
        """Raises NoAnswer: an embedded node has none."""
        raise NoAnswer("an embedded node has no unit manager")

    async def in_use(self) -> InUse:
        """The service's file and environment; before its first start, as declared."""
        path = self.layout.node(self.node.name) / names.SETTINGS_FILE_NAME
        if not path.exists():
            return InUse(yaml.safe_dump(self.declaration.service), self.declaration.environment)
        try:
            given = self.launched(names.process(self.node.name, names.SERVICE))["environment"]
            return InUse(path.read_text(encoding="utf-8"), given)
        except OSError as error:
            raise NoAnswer(f"{error.filename}: {error.strerror}") from None

    async def repository(self) -> tuple[str, Listing]:
        """The folder in the stack file."""
        assert self.declaration.triton is not None
        folder = self.declaration.triton.repository
        try:
            listing = await asyncio.to_thread(local, folder)
        except NotARepository as error:
            raise NoAnswer(str(error)) from None
        return str(folder), listing

    def launched(self, program: str) -> dict[str, Any]:
        """The specification that a program was last started with. Raises OSError before its first start."""
        content: dict[str, Any] = json.loads((self.layout.programs / f"{program}.json").read_text())
        return content
