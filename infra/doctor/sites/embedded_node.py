"""A node of processes on this computer: its addresses, and the drift of its processes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import yaml

from infra import names
from infra.doctor.answers import failing
from infra.doctor.checks.drift import keys, setting_differences
from infra.doctor.findings import Outcome, problem, warning, worst
from infra.doctor.host_access import NoAnswer
from infra.doctor.linter import Listing, NotARepository, local
from infra.doctor.sites.node import InUse
from infra.doctor.web import HttpServer
from infra.embedded.declarations import NodeDeclaration
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.node import node_programs
from infra.embedded.program import MARK
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
            given = _launched(self.layout, names.process(self.node.name, names.SERVICE))["environment"]
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

    async def drift(self) -> Outcome:
        """Whether each process is the one that an update would start now."""
        try:
            programs = await asyncio.to_thread(node_programs, self.layout, self.declaration)
        except EmbeddedError as error:
            return problem(str(error), "make setup")
        outcomes = []
        for program in programs:
            try:
                started = _launched(self.layout, program.name)
            except OSError:
                continue  # it was never started, which another check reports
            environment = {key: value for key, value in started["environment"].items() if key != MARK}
            differences = []
            if started["command"] != list(program.command) or environment != dict(program.environment):
                differences.append("was started with other settings than declared")
            if started["revision"] != program.revision:
                differences.append("was started from code, models or settings that have changed since")
            outcomes += [warning(f"{program.name} {each}", self.service_start) for each in differences]
        with failing(self.service_start):
            in_use = keys((await self.in_use()).file)
        # The layout decides this folder when the node starts.
        in_use.get("server", {}).pop("runtime_dir", None)
        differences = setting_differences(self.declaration.service, in_use)
        service = names.process(self.node.name, names.SERVICE)
        outcomes += [warning(f"{service}: {each}", self.service_start) for each in differences]
        return worst(outcomes, "processes are as declared")


def _launched(layout: Layout, program: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((layout.programs / f"{program}.json").read_text())
    return content
