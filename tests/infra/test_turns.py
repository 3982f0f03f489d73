"""No node is taken down unless enough others serve at that moment."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from infra.connection import Connection
from infra.gateway.render import UpstreamServer, render_servers
from infra.node_health import NodeAddress
from infra.stack import parse
from infra.update import turns
from infra.update.turns import Entrance, NotEnough, Turns

HERE = Connection("unix:///nowhere.sock")
Reasons = dict[str, str]


@pytest.fixture
def reasons(monkeypatch: pytest.MonkeyPatch) -> Reasons:
    """Why nodes do not serve, by name: a double of the question that `node_health` asks over SSH."""
    given: Reasons = {}
    monkeypatch.setattr(
        turns,
        "problems",
        lambda nodes, seconds: {node.node: given[node.node] for node in nodes if node.node in given},
    )
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(turns, "_POLL_SECONDS", 0.01)
    return given


def fleet(
    count: int,
    *away: str,
    entrance: Entrance | None = None,
    tasks: dict[str, list[str]] | None = None,
    **rollout: object,
) -> Turns:
    nodes = [f"gpu-{n}" for n in range(1, count + 1)]
    addresses = {name: NodeAddress(name, HERE, name, ()) for name in nodes if name not in away}
    stack = parse({"nodes": ["ssh://root@192.0.2.1"], "rollout": rollout})
    return Turns(addresses, frozenset(away), stack.rollout, entrance, tasks=tasks)


def test_a_node_is_taken_down_while_others_serve(reasons: Reasons) -> None:
    assert fleet(3).take("gpu-1") is False


def test_the_only_node_that_serves_stays(reasons: Reasons) -> None:
    reasons["gpu-2"] = "model asr is not ready"
    with pytest.raises(NotEnough) as caught:
        fleet(2).take("gpu-1")
    message = str(caught.value)
    assert "node gpu-1 stays as it is: 0 other nodes serve" in message
    assert "gpu-2: model asr is not ready" in message
    assert "rollout.minHealthy: 0" in message


def test_a_node_whose_host_is_away_does_not_serve(reasons: Reasons) -> None:
    with pytest.raises(NotEnough, match="gpu-2: its host cannot be reached"):
        fleet(2, "gpu-2").take("gpu-1")
    assert fleet(3, "gpu-2").take("gpu-1") is False


def test_a_node_that_serves_nobody_may_always_be_taken_down(reasons: Reasons) -> None:
    reasons |= {"gpu-1": "no model", "gpu-2": "no model"}
    assert fleet(2).take("gpu-1") is False
    assert fleet(2).take("drained") is False, "it gets no traffic"


def test_a_lone_node_is_taken_down_with_a_gap(reasons: Reasons) -> None:
    one = fleet(1)
    assert one.lone
    assert one.take("gpu-1") is True
    reasons["gpu-2"] = "no model"
    assert fleet(2, minHealthy=0).take("gpu-1") is True


@pytest.mark.parametrize(
    ("nodes", "share", "needed"),
    [
        (1, None, 0),
        (2, None, 1),
        (3, None, 1),
        (8, None, 4),
        (4, "50%", 2),
        (4, "0%", 0),
        (3, 3, 2),
        (9, 2, 2),
    ],
)
def test_half_of_the_nodes_and_at_least_one_must_serve_unless_the_stack_says_otherwise(
    nodes: int, share: object, needed: int
) -> None:
    rollout = {} if share is None else {"minHealthy": share}
    assert parse({"nodes": ["ssh://root@192.0.2.1"], "rollout": rollout}).rollout.needed(nodes) == needed


def test_another_node_must_answer_for_each_task_of_a_node(reasons: Reasons) -> None:
    tasks = {"gpu-1": ["asr", "emotion"], "gpu-2": ["asr"], "gpu-3": ["emotion"], "gpu-4": ["asr"]}
    assert fleet(4, tasks=tasks).take("gpu-1") is False
    reasons["gpu-3"] = "no model"
    with pytest.raises(NotEnough) as caught:
        fleet(4, tasks=tasks).take("gpu-1")
    message = str(caught.value)
    assert "node gpu-1 stays as it is: no other node serves emotion now. These do not:" in message
    assert "gpu-3: no model" in message
    assert fleet(4, tasks=tasks).take("gpu-4") is False, "gpu-1 and gpu-2 serve its task"
    assert fleet(4, tasks=tasks, minHealthy=0).take("gpu-1") is False


def test_the_only_node_with_a_task_changes_with_a_gap_that_is_named(reasons: Reasons) -> None:
    roles = fleet(3, tasks={"gpu-1": ["asr"], "gpu-2": ["asr"], "gpu-3": ["emotion", "synthesis"]})
    assert roles.take("gpu-1") is False
    roles.finish("gpu-1")
    assert roles.take("gpu-3") is True
    assert roles.unserved("gpu-3") == ["emotion", "synthesis"]


def test_two_nodes_of_a_batch_do_not_count_on_each_other(reasons: Reasons) -> None:
    two = fleet(2)
    two.take("gpu-1")
    second = threading.Thread(target=two.take, args=("gpu-2",), daemon=True)
    second.start()
    second.join(0.2)
    assert second.is_alive(), "it waits, although gpu-1 still answers"
    two.finish("gpu-1")
    second.join(20)
    assert not second.is_alive()


def test_only_nodes_that_the_gateway_sends_traffic_to_count(reasons: Reasons, tmp_path: Path) -> None:
    servers = [UpstreamServer(f"gpu-{n}", f"192.0.2.{n}", 8800, 9800, drained=n == 2) for n in (1, 2)]
    file = tmp_path / "servers.conf"
    file.write_text(render_servers("prod", tuple(servers)))
    entrance = Entrance(HERE, str(file))
    assert entrance.servers() == {"gpu-1": {"192.0.2.1:8800"}}
    assert fleet(3, entrance=entrance).take("gpu-1") is True, "gpu-3 is new, and gpu-2 gets no traffic yet"
    assert fleet(3, entrance=Entrance(HERE, f"{file}.none")).take("gpu-1") is False, "nothing is deployed yet"
