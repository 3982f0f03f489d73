"""The console as a process: what it says of nodes that live, die and return."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
from dataclasses import asdict
from pathlib import Path

import msgspec
import psutil
import pytest
from cryptography import x509

from inference_service.console.settings import ConsoleSettings, SettingsInvalid, load
from infra.certificates import gateway_identity, make_authority, node_identity
from infra.names import NODE_TLS_NAME
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


def test_a_password_opens_the_console_in_place_of_the_keys(console: Start) -> None:
    running = console(1, CONSOLE_API_KEYS='["a-key-0123456789"]', CONSOLE_PASSWORD="open-sesame")
    refused = running.get("/console/api/fleet", Authorization="Bearer a-key-0123456789")
    assert (refused.status_code, "missing or wrong password" in refused.text) == (401, True)
    assert running.get("/console/api/fleet", Authorization="Bearer open-sesame").status_code == 200
    assert running.get("/console/api/entrance").json()["opened_by"] == "password"


def test_keys_of_the_environment_guard_as_those_of_the_file(console: Start) -> None:
    running = console(1, CONSOLE_API_KEYS='["a-key-0123456789"]')
    assert running.get("/console/api/fleet").status_code == 401
    assert running.get("/console/api/fleet", Authorization="Bearer a-key-0123456789").status_code == 200
    # The nodes want the key, too.
    assert running.nodes["gpu-1"].keys == {"Bearer a-key-0123456789"}


def test_the_console_and_nodes_with_tls_know_each_other_by_certificates(
    console: Start, tmp_path: Path
) -> None:
    authority, now = make_authority(), datetime.datetime.now(datetime.UTC)
    node = node_identity(authority, "prod", "gpu-1", "192.0.2.11", 90, now)
    for name, text in (("node.pem", f"{node.certificate}\n{node.key}"), ("authority.pem", node.authority)):
        (tmp_path / name).write_text(text)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "authority.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "node.pem")

    def told(by: str) -> str:
        client = gateway_identity(by, "prod", 90, now)
        return json.dumps(asdict(client) | {"name": NODE_TLS_NAME})

    trusted = console(1, tls=context, CONSOLE_TLS=told(authority))
    trusted.wait(lambda fleet: fleet["nodes"][0]["health"] == "healthy")
    ends = x509.load_pem_x509_certificate(node.certificate.encode()).not_valid_after_utc.timestamp()
    told_metric = 'ai_gateway_node_certificate_expires_seconds{node="gpu-1"} '
    [said] = [each for each in trusted.get("/metrics").text.splitlines() if each.startswith(told_metric)]
    assert float(said.removeprefix(told_metric)) == ends
    stranger = console(1, tls=context, CONSOLE_TLS=told(make_authority()))
    stranger.wait(lambda fleet: fleet["nodes"][0]["health"] == "down")


def test_settings_that_cannot_be_used_are_named_and_show_no_key(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"stack": "prod"}')
    with pytest.raises(SettingsInvalid, match=r"settings\.json: .*nodes"):
        load(file, {})
    file.write_bytes(msgspec.json.encode(ConsoleSettings("prod", (), "http://x", None, "/s")))
    with pytest.raises(SettingsInvalid, match="CONSOLE_API_KEYS: expected a JSON list") as caught:
        load(file, {"CONSOLE_API_KEYS": "a-key-0123456789"})
    assert "a-key" not in str(caught.value)
    with pytest.raises(SettingsInvalid, match="CONSOLE_TLS: expected JSON with certificate") as caught:
        load(file, {"CONSOLE_TLS": '{"key": "a-private-key"}'})
    assert "a-private-key" not in str(caught.value)


def test_the_console_takes_another_list_of_nodes_without_a_restart_and_keeps_what_it_knows(
    console: Start,
) -> None:
    running = console(3)
    running.wait(lambda fleet: all(node["figures"] for node in fleet["nodes"]))
    known = running.get("/console/api/history?part=gpu-1").json()["time"]
    one, two, _ = running.settings.nodes
    drained = msgspec.structs.replace(one, state="drained")
    added = msgspec.structs.replace(two, name="gpu-9")
    other = msgspec.structs.replace(running.settings, nodes=(drained, added))
    replacement = running.file.with_name("new.json")
    replacement.write_bytes(msgspec.json.encode(other))
    replacement.rename(running.file)
    running.wait(lambda fleet: [node["name"] for node in fleet["nodes"]] == ["gpu-1", "gpu-9"])
    running.wait(lambda fleet: all(node["health"] == "healthy" for node in fleet["nodes"]))
    assert running.fleet()["nodes"][0]["state"] == "drained"
    assert running.get("/console/api/history?part=gpu-1").json()["time"][0] == known[0]
    running.file.write_text("not JSON")
    running.nodes["gpu-1"].close()
    running.wait(lambda fleet: fleet["nodes"][0]["health"] == "down")


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
