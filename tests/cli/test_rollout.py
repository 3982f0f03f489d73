"""What a rollout tells while it runs, and a long copy of a model."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from infra.cli import rollout
from infra.steps import progress

pytestmark = pytest.mark.fast


def event(kind: str, name: str, at: int, *, planning: bool = False, op: str = "create") -> dict[str, Any]:
    """An event as the CLI 3.259 writes it."""
    urn = f"urn:pulumi:prod::gpu-inference::command:local:Command::{name}@192.0.2.10"
    metadata = {"op": op, "urn": urn, "type": "command:local:Command"}
    return {"sequence": at, "timestamp": at, kind: {"metadata": metadata, "planning": planning}}


PREVIEW = [event("resOutputsEvent", f"gpu-{number}-tried", 0, planning=True) for number in (1, 2, 3)]


def lines(events: list[dict[str, Any]], nodes: int) -> list[str]:
    told = rollout.Rollout(nodes)
    return [line for each in events if (line := told.line(each)) is not None]


def test_each_node_that_has_changed_is_told_with_the_remaining_time() -> None:
    update = [
        event("resourcePreEvent", "gpu-1-turn", 100),
        event("resOutputsEvent", "gpu-1-service", 130),
        event("resOutputsEvent", "gpu-1-tried", 160),
        event("resourcePreEvent", "gpu-2-turn", 160),
        event("resOutputsEvent", "gpu-2-tried", 220),
        event("resOutputsEvent", "gpu-3-tried", 280, op="replace"),
    ]
    assert lines([*PREVIEW, *update], nodes=5) == [
        "node gpu-1 has changed and does its work (1 of 3, about 2 min left)",
        "node gpu-2 has changed and does its work (2 of 3, about 60 s left)",
        "node gpu-3 has changed and does its work (3 of 3)",
    ]


def test_without_a_preview_the_number_is_the_most_that_it_can_be() -> None:
    update = [event("resourcePreEvent", "gpu-1-turn", 100), event("resOutputsEvent", "gpu-1-tried", 110)]
    assert lines(update, nodes=5) == [
        "node gpu-1 has changed and does its work (1 of at most 5, about 40 s left)"
    ]


def test_in_a_cluster_a_pool_is_told_when_its_pods_were_found_good() -> None:
    update = [
        event("resourcePreEvent", "l4-canary-deployment", 100),
        event("resOutputsEvent", "l4-canary-good-configmap", 130),
        event("resOutputsEvent", "l4-good-configmap", 160),
    ]
    assert lines(update, nodes=2) == [
        "node l4-canary has changed and does its work (1 of at most 2, about 30 s left)",
        "node l4 has changed and does its work (2 of 2)",
    ]


def test_a_node_that_does_not_change_is_not_told() -> None:
    same = [event("resOutputsEvent", "gpu-1-tried", 5, op="same"), event("resOutputsEvent", "gateway", 6)]
    assert lines(same, nodes=1) == []


def test_a_log_is_followed_while_it_is_written(tmp_path: Path) -> None:
    log, ended, told = tmp_path / "events.json", threading.Event(), []
    heard = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        heard.set()

    thread = threading.Thread(target=rollout.follow, args=(log, 2, ended, tell))
    thread.start()
    first = json.dumps(event("resOutputsEvent", "gpu-1-tried", 5))
    with log.open("w") as out:
        out.write(first[:40])
        out.flush()
        out.write(first[40:] + "\n")
        out.flush()
        assert heard.wait(20)
        out.write(json.dumps(event("resOutputsEvent", "gpu-2-tried", 9)) + "\n")
    ended.set()
    thread.join(20)
    assert [line.split()[1] for line in told] == ["gpu-1", "gpu-2"]


def test_a_long_copy_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    out = io.BytesIO()
    told = progress.Told(out, "model asr", 300_000_000, clock=lambda: now)
    for seconds in (4.0, 12.0, 15.0, 24.0):
        now = seconds
        told.write(bytes(50_000_000))
    assert capsys.readouterr().err.splitlines() == [
        "model asr: 100 of 300 MB copied, about 24 s left",
        "model asr: 200 of 300 MB copied, about 12 s left",
    ]
    assert len(out.getvalue()) == 200_000_000


def test_a_short_copy_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress.Told(io.BytesIO(), "model asr", 10).write(b"1234567890")
    assert capsys.readouterr().err == ""
