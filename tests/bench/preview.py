"""How long the Pulumi program takes to declare a large fleet: this project's part of a preview."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.bench.row import Row
from tests.infra.declared import declare

NODES = 64


def preview(folder: Path) -> list[Row]:
    """The seconds to declare 64 nodes with a synchronized model, under Pulumi's mocks; best of two."""
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
    return [Row(f"preview, {NODES} nodes", "seconds in the program", min(seconds), 10.0, "less")]
