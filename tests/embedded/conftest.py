"""A real embedded stack for the tests: two nodes with a Triton each, and the gateway, on free ports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from infra.embedded import fleet, processes
from infra.embedded.declarations import GatewayDeclaration
from infra.embedded.layout import Layout
from infra.embedded.program import MARK
from infra.embedded.supervisor import Supervisor
from infra.stack import parse
from tests.ports import free_ports


def left_running(layout: Layout) -> list[int]:
    """Every process that was started for the stack, whatever its parent is now."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    marked = [pid for pid in pids if processes.has_variable(pid, MARK, str(layout.root))]
    supervisor = Supervisor(layout).pid
    return marked + ([supervisor] if supervisor is not None else [])


@dataclass
class Running:
    """The stack and its last declaration."""

    layout: Layout
    fleet: fleet.Fleet

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.layout)

    def up(self, **changes: object) -> list[str]:
        """Declares the fleet with `changes` and applies it. Returns the changes that were made."""
        self.fleet = replace(self.fleet, **changes)  # type: ignore[arg-type]
        return fleet.up(self.layout, self.fleet)

    def pids(self) -> dict[str, int]:
        """The process of every program."""
        return {name: self.supervisor.state(name).pid for name in self.supervisor.programs}


def with_site(gateway: GatewayDeclaration, **changes: Any) -> GatewayDeclaration:
    """The declaration with `changes` to its site."""
    return structs.replace(gateway, site=replace(gateway.site, **changes))


def declared() -> fleet.Fleet:
    """Two nodes and a gateway, on free ports."""
    ports = iter(free_ports(12))
    names = ("http", "grpc", "tritonHttp", "tritonGrpc", "tritonMetrics")
    nodes = [
        {"name": name, "host": "embedded", "ports": {key: next(ports) for key in names}}
        for name in ("dev-1", "dev-2")
    ]
    stack = parse(
        {
            "nodes": nodes,
            "service": {"workers": 1},
            "models": {"source": "sync", "path": "./model_repository"},
            "gateway": {"mode": "embedded", "http": next(ports), "grpc": next(ports)},
        }
    )
    return fleet.declare(stack)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    layout = Layout(tmp_path_factory.mktemp("state") / "dev")
    stack = Running(layout, declared())
    try:
        stack.up()
        yield stack
    finally:
        fleet.down(layout)
        assert left_running(layout) == []


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """An empty stack's files. Processes that a test starts in it are stopped."""
    layout = Layout(tmp_path / "dev")
    try:
        yield layout
    finally:
        fleet.down(layout)
        assert left_running(layout) == []
