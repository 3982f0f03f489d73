"""The console as a process: what it says of nodes that live, die and return."""

from __future__ import annotations

import socket

import psutil
import pytest

from tests.console.conftest import Start


def test_every_node_is_there_with_health_figures_and_models(console: Start) -> None:
    running = console(2)
    running.wait(lambda fleet: all(node["figures"] for node in fleet["nodes"]))
    fleet = running.fleet()
    node = fleet["nodes"][0]
    assert (node["name"], node["health"], node["version"]) == ("gpu-1", "healthy", "0.1.0")
    assert node["models"] == [{"task": "asr", "name": "whisper-base", "version": "abc123"}]
    assert node["figures"]["requests"] > 0
    assert (node["figures"]["running"], node["figures"]["queued"], node["figures"]["streams"]) == (2, 1, 3)
    assert node["figures"]["gpu"] == 0.5
    assert fleet["gateway"]["health"] == "healthy"


def test_a_node_that_dies_is_down_within_five_seconds_and_healthy_within_five_of_its_return(
    console: Start,
) -> None:
    running = console(2)
    running.wait(lambda fleet: all(node["health"] == "healthy" for node in fleet["nodes"]))
    running.nodes["gpu-2"].close()
    assert running.wait(lambda fleet: fleet["nodes"][1]["health"] == "down") < 5
    assert running.fleet()["nodes"][0]["health"] == "healthy"
    running.nodes["gpu-2"].open()
    assert running.wait(lambda fleet: fleet["nodes"][1]["health"] == "healthy") < 5


def test_an_unhealthy_node_says_why(console: Start) -> None:
    running = console(1)
    node = running.nodes["gpu-1"]
    node.health, node.message = 503, "the model asr is not ready: loading"
    running.wait(lambda fleet: fleet["nodes"][0]["health"] == "unhealthy")
    assert running.fleet()["nodes"][0]["reason"] == "the model asr is not ready: loading"


def test_a_node_that_stays_silent_delays_no_other(console: Start) -> None:
    running = console(3)
    running.nodes["gpu-1"].silent = True
    running.wait(lambda fleet: fleet["nodes"][0]["health"] == "down", seconds=10)
    assert "no answer within" in running.fleet()["nodes"][0]["reason"]
    running.nodes["gpu-3"].close()
    assert running.wait(lambda fleet: fleet["nodes"][2]["health"] == "down") < 5


def test_keys_guard_the_fleet_and_not_the_landing_page(console: Start) -> None:
    running = console(1, keys=("a-key-0123456789",))
    for path in ("/console/api/fleet", "/console/api/history", "/console/api/nodes/gpu-1/log"):
        assert running.get(path).status_code == 401
        assert running.get(path, Authorization="Bearer wrong").status_code == 401
        assert running.get(path, Authorization="Bearer a-key-0123456789").status_code == 200
        assert running.get(path, **{"X-API-Key": "a-key-0123456789"}).status_code == 200
    entrance = running.get("/console/api/entrance")
    assert entrance.status_code == 200
    assert "gpu-1" not in entrance.text


def test_a_log_is_the_nodes_own(console: Start) -> None:
    running = console(1)
    assert running.get("/console/api/nodes/gpu-1/log").json() == {
        "lines": ["first line", "second <b>line</b>"]
    }
    assert running.get("/console/api/nodes/gpu-9/log").status_code == 404
    running.nodes["gpu-1"].close()
    assert "error" in running.get("/console/api/nodes/gpu-1/log").json()


def test_the_gateways_figures_are_from_nginx_lines(console: Start) -> None:
    running = console(1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nginx:
        nginx.connect(running.log_socket)

        def served(fleet: dict) -> bool:  # type: ignore[type-arg]
            for line in (
                "200 0.200 /api/v1/ai/asr",
                "503 0.001 /api/v1/ai/asr",
                "200 0.001 /console",
                "nonsense",
            ):
                nginx.send(f"<190>Nov 27 12:00:00 fleet: {line}".encode())
            return bool(fleet["gateway"]["figures"] and fleet["gateway"]["figures"]["requests"])

        running.wait(served)
    assert running.fleet()["gateway"]["figures"]["errors"] == pytest.approx(0.5, abs=0.05)


def test_ten_nodes_take_less_than_100_mb_and_have_a_history(console: Start) -> None:
    running = console(10)
    running.wait(lambda fleet: all(node["figures"] for node in fleet["nodes"]))
    process = psutil.Process(running.process.pid)
    assert process.memory_info().rss < 100e6
    history = running.get("/console/api/history").json()
    assert len(history["time"]) == len(history["requests"]) >= 1
