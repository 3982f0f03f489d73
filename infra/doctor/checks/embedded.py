"""A node of processes on this computer: where its parts are, whether they run and are as declared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from infra import names
from infra.doctor.checks.node import InUse
from infra.doctor.checks.settings import keys, setting_differences
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.linter import Listing, NotARepository, local
from infra.doctor.reach import NoAnswer
from infra.doctor.web import Site
from infra.embedded.declarations import NodeDeclaration
from infra.embedded.environment import check_ports
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.node import node_programs
from infra.embedded.program import MARK
from infra.embedded.supervisor import Supervisor, SupervisorError
from infra.stack import Node


class EmbeddedPlace:
    """Where the processes of one node are."""

    reach = None

    def __init__(self, node: Node, declared: NodeDeclaration, layout: Layout) -> None:
        self.node = node
        self.declared = declared
        self.layout = layout
        self.triton_address = f"{names.LOOPBACK}:{node.ports.triton_grpc}"
        self.triton_log = f"tail -n 50 {layout.log(names.process(node.name, names.TRITON))}"
        self.service_log = f"tail -n 50 {layout.log(names.process(node.name, names.SERVICE))}"
        self.triton_start = self.service_start = layout.make("up")

    @property
    def programs(self) -> list[str]:
        """The names of the node's processes, in the order in which they start."""
        parts = [names.TRITON, names.SERVICE] if self.declared.triton else [names.SERVICE]
        return [names.process(self.node.name, part) for part in parts]

    def service(self) -> Site:
        """The service's HTTP API."""
        return Site(names.LOOPBACK, self.node.ports.http)

    def triton(self) -> Site:
        """Triton's HTTP API."""
        return Site(names.LOOPBACK, self.node.ports.triton_http)

    def unit_manager(self) -> tuple[str, int]:
        """There is none among the embedded parts."""
        raise NoAnswer("an embedded node has no unit manager")

    async def in_use(self) -> InUse:
        """The service's file and environment; as declared before its first start."""
        path = self.layout.node(self.node.name) / names.SETTINGS_FILE_NAME
        if not path.exists():
            return InUse(yaml.safe_dump(self.declared.service), self.declared.environment)
        try:
            given = _launched(self.layout, names.process(self.node.name, names.SERVICE))["environment"]
            return InUse(path.read_text(encoding="utf-8"), given)
        except OSError as error:
            raise NoAnswer(f"{error.filename}: {error.strerror}") from None

    async def repository(self) -> tuple[str, Listing]:
        """The folder that the stack names."""
        assert self.declared.triton is not None
        folder = self.declared.triton.repository
        try:
            listing = await asyncio.to_thread(local, folder)
        except NotARepository as error:
            raise NoAnswer(str(error)) from None
        return str(folder), listing

    async def drift(self) -> Outcome:
        """Each process against what would be started now. The stack has been started: its folder is there."""
        try:
            programs = await asyncio.to_thread(node_programs, self.layout, self.declared)
        except EmbeddedError as error:
            return problem(str(error), "make setup")
        outcomes = []
        for program in programs:
            try:
                started = _launched(self.layout, program.name)
            except OSError:
                continue  # it was never started, which is a finding of its own
            environment = {key: value for key, value in started["environment"].items() if key != MARK}
            said = []
            if started["command"] != list(program.command) or environment != dict(program.environment):
                said.append("was started with other settings than declared")
            if started["revision"] != program.revision:
                said.append("was started from other code, models or settings than there are now")
            outcomes += [warning(f"{program.name} {what}", self.service_start) for what in said]
        # The layout's own folder is decided when the node starts.
        in_use = keys((await self.in_use()).file)
        in_use.get("server", {}).pop("runtime_dir", None)
        differences = setting_differences(self.declared.service, in_use)
        service = names.process(self.node.name, names.SERVICE)
        outcomes += [warning(f"{service}: {said}", self.service_start) for said in differences]
        return worst(outcomes, "processes are as declared")


def _launched(layout: Layout, program: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((layout.programs / f"{program}.json").read_text())
    return content


async def process(layout: Layout, name: str) -> Outcome:
    """Whether the supervisor keeps a process of that name running."""

    def asked() -> Outcome:
        supervisor = Supervisor(layout)
        if not supervisor.running():
            return problem("the stack is not running: there is no supervisor", layout.make("up"))
        try:
            state = supervisor.state(name)
        except SupervisorError as error:
            return problem(f"{error}", layout.make("up"))
        # STARTING is its name for the first second of a process that runs.
        if state.name in ("RUNNING", "STARTING") and state.pid:
            return ok(f"{name}: {state.detail or f'pid {state.pid}, just started'}")
        log = supervisor.last_lines(name, 5)
        return problem(f"{name}: {state.name}, {state.detail}; its log ends:\n{log}", layout.make("up"))

    return await asyncio.to_thread(asked)


async def ports(layout: Layout, declared: dict[str, int]) -> Outcome:
    """Whether each port is free, or held by the stack's own process; keys are settings."""

    def asked() -> Outcome:
        outcomes = []
        for key, port in declared.items():
            try:
                check_ports(layout, {key: port})
            except EmbeddedError as error:
                said, _, remedy = str(error).partition("; ")
                outcomes.append(problem(said, remedy))
        return worst(outcomes, ", ".join(str(port) for port in declared.values()))

    return await asyncio.to_thread(asked)


async def disk(folders: Sequence[Path]) -> Outcome:
    """The space for logs and models on this computer."""
    import shutil

    outcomes = []
    for folder in folders:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(there).free
        seen = f"{free / (1 << 30):.1f} GiB free at {folder}"
        if free < 1 << 30:
            outcomes.append(
                problem(seen, f"free space there: du -xh --max-depth=2 {there} shows what is large")
            )
        else:
            outcomes.append(ok(seen))
    return worst(outcomes, "; ".join(outcome.seen for outcome in outcomes))
