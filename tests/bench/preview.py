"""How long a preview of a large fleet takes: the Pulumi program alone, and the whole command."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from tests.bench.row import Row
from tests.e2e.lab.prerequisites import find
from tests.e2e.lab.program import Program
from tests.infra.declared import declare

NODES = 64


def preview(folder: Path) -> list[Row]:
    """The seconds to declare 64 nodes with a synchronized model, under Pulumi's mocks, best of two; and those
    of `pulumi preview` where the CLI is installed."""
    model = folder / "models" / "asr"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text('name: "asr"\n')
    (model / "1" / "model.py").write_text("# one\n")
    nodes = [{"name": f"gpu-{n}", "host": f"ssh://root@192.0.2.{n}"} for n in range(1, NODES + 1)]
    stack = {
        "nodes": nodes,
        "service": {"image": "registry.example.com/service:1"},
        "models": {"source": "sync", "path": str(model.parent)},
    }
    asyncio.set_event_loop(asyncio.new_event_loop())
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        declare(stack)
        seconds.append(time.perf_counter() - begun)
    rows = [Row(f"preview, {NODES} nodes", "seconds in the program", min(seconds), 10.0, "less")]
    if find("pulumi") is not None:
        rows.append(_command(folder / "pulumi", nodes))
    return rows


def _command(folder: Path, nodes: list[dict[str, Any]]) -> Row:
    """The seconds of the preview that creates everything, with built images and all models of the project."""
    folder.mkdir()
    program = Program(folder, "bench")
    program.configure({"nodes": nodes, "triton": {"build": True}, "models": {"source": "sync"}})
    previewed = program.preview().check()
    return Row(f"preview, {NODES} nodes", "seconds of pulumi preview", previewed.seconds, 10.0, "less")
