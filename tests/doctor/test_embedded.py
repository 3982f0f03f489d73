"""The doctor on a real embedded stack finds each planted fault by name, and nothing else."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from infra.doctor import cli as command
from infra.doctor import web
from infra.doctor.findings import Finding, Status
from infra.embedded import fleet
from infra.embedded.layout import Layout
from infra.embedded.supervisor import Supervisor
from infra.paths import PROJECT
from infra.stack import load_file
from tests.embedded.conftest import left_running
from tests.ports import free_ports

_SECONDS = 120


@dataclass
class Stack:
    """One node and the gateway, with a model repository of their own for faults."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "Pulumi.clinic.yaml"

    @property
    def layout(self) -> Layout:
        return Layout.for_stack("clinic", self.folder / "state")

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.layout)

    def up(self) -> None:
        fleet.up(self.layout, fleet.declare(load_file(self.file)))

    def doctor(self, *arguments: str, capture: Callable[[], str]) -> tuple[int, dict[str, Any]]:
        status = command.main(
            ["--file", str(self.file), "--state", str(self.folder / "state"), "--json", *arguments]
        )
        return status, json.loads(capture())

    def findings(self) -> list[Finding]:
        stack = load_file(self.file)
        console = command.Console(file=io.StringIO())
        return asyncio.run(command.findings_of(stack, self.layout, [], console, None))

    def bad(self) -> dict[str, Finding]:
        """All problems and warnings but drift: the project's code is part of the declaration, and developers
        may edit it."""
        return {
            f"{finding.where[0]}: {finding.check}": finding
            for finding in self.findings()
            if finding.status in (Status.PROBLEM, Status.WARNING) and finding.check != "drift"
        }

    def restart(self, program: str) -> None:
        """Ends a process and waits until the supervisor has started the next."""
        os.killpg(self.supervisor.state(program).pid, signal.SIGKILL)

    def wait(self, program: str, url: str, status: int = 200) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                if httpx2.get(url, timeout=2).status_code == status:
                    return
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < deadline, self.supervisor.last_lines(program)
            time.sleep(0.1)

    @property
    def ports(self) -> dict[str, int]:
        ports = load_file(self.file).nodes[0].ports
        return {"http": ports.http, "triton": ports.triton_http}

    def health_when(self, words: str) -> str:
        """The message of the node's health, as soon as it contains these words or the time is up."""
        deadline = time.monotonic() + _SECONDS
        url = f"http://127.0.0.1:{self.ports['http']}/api/v1/ai/health"
        while (
            words not in (reason := httpx2.get(url, timeout=2).json()["message"])
            and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        return str(reason)

    def wait_healthy(self) -> None:
        self.wait("one-service", f"http://127.0.0.1:{self.ports['http']}/api/v1/ai/health")

    def wait_unhealthy(self) -> None:
        self.wait("one-service", f"http://127.0.0.1:{self.ports['http']}/api/v1/ai/health", 503)

    def wait_triton(self) -> None:
        self.wait("one-triton", f"http://127.0.0.1:{self.ports['triton']}/v2/health/ready")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("clinic"))
    for model in ("asr", "emotion", "emotion-text", "synthesis"):
        shutil.copytree(
            PROJECT / "model_repository" / model,
            stack.models / model,
            ignore=shutil.ignore_patterns("__pycache__", "training", "evaluation"),
        )
    ports = iter(free_ports(7))
    names = ("http", "grpc", "tritonHttp", "tritonGrpc", "tritonMetrics")
    config = {
        "nodes": [{"name": "one", "host": "embedded", "ports": {name: next(ports) for name in names}}],
        "service": {"workers": 1},
        "models": {"source": "sync", "path": str(stack.models), "allowRules": True},
        "gateway": {"mode": "embedded", "http": next(ports), "grpc": next(ports)},
        "rollout": {"readyTimeoutSeconds": _SECONDS},
    }
    stack.file.write_text(
        yaml.safe_dump({"config": {f"gpu-inference:{key}": value for key, value in config.items()}})
    )
    try:
        stack.up()
        yield stack
    finally:
        fleet.down(stack.layout)
        assert left_running(stack.layout) == []


@pytest.fixture
def stack(running: Stack) -> Iterator[Stack]:
    """The stack, healthy before the test and restored after it."""
    yield running
    running.up()
    running.wait_healthy()


@contextmanager
def edited(stack: Stack, path: Path, old: str, new: str, *, restart: str | None = None) -> Iterator[None]:
    """A file with one text replaced. With `restart`, a process reads it, and reads the original
    afterwards."""
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        if restart is not None:
            stack.restart(restart)
            stack.wait_unhealthy()
        yield
    finally:
        path.write_text(before)
        if restart is not None:
            stack.restart(restart)
            stack.wait_healthy()


def test_a_healthy_stack_is_all_well_and_ends_with_0(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report = stack.doctor(capture=lambda: capsys.readouterr().out)
    wrong = [
        f"{finding['check']}: {finding['seen']}"
        for finding in report["findings"]
        if finding["status"] != "ok"
    ]
    assert "\n".join(wrong) == ""
    assert status == 0
    by_name = {(finding["where"][0], finding["check"]): finding for finding in report["findings"]}
    assert "fellow Americans" in by_name["one", "inference"]["seen"]
    assert "fellow Americans" in by_name["gateway", "gateway inference"]["seen"]


def test_one_node_can_be_asked_alone(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    status, report = stack.doctor("--node", "gateway", capture=lambda: capsys.readouterr().out)
    assert status == 0
    assert {name for finding in report["findings"] for name in finding["where"]} == {"gateway", "one"}
    assert "models" not in {finding["check"] for finding in report["findings"]}


def test_a_node_that_is_not_in_the_stack_is_a_usage_error(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--file", str(stack.file), "--node", "gpu-9"]) == 2
    assert "--node gpu-9: expected one of one, gateway" in capsys.readouterr().err


def test_a_triton_that_hangs_is_found_and_the_service_is_not_blamed(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "ANSWER_SECONDS", 1.0)
    triton = stack.supervisor.state("one-triton").pid
    os.killpg(triton, signal.SIGSTOP)
    try:
        findings = stack.findings()
    finally:
        os.killpg(triton, signal.SIGCONT)
    bad = {f.check for f in findings if f.status is Status.PROBLEM and f.where[0] == "one"}
    assert bad == {"triton"}
    assert "Triton is not ready: no answer within 1 s (Triton at " in next(
        f.seen for f in findings if f.check == "triton"
    )
    skipped = {f.check: f.seen for f in findings if f.status is Status.SKIPPED}
    assert skipped["health"] == "because of: triton"


def test_a_killed_triton_is_found_with_the_command_that_starts_it(stack: Stack) -> None:
    stack.supervisor._call("stopProcess", "one-triton")
    bad = stack.bad()
    assert set(bad) == {"one: triton process"}
    assert "one-triton: STOPPED" in bad["one: triton process"].seen
    assert bad["one: triton process"].remedy == "make up STACK=clinic"


def test_a_stopped_service_is_found_and_the_gateway_is_not_blamed(stack: Stack) -> None:
    stack.supervisor._call("stopProcess", "one-service")
    findings = stack.findings()
    assert {f"{f.where[0]}: {f.check}" for f in findings if f.status is Status.PROBLEM} == {
        "one: service process"
    }
    assert {f.seen for f in findings if f.check == "upstream one"} == {"because of: service process"}


def test_a_deleted_configuration_is_found_before_triton_misses_it(stack: Stack) -> None:
    path = stack.models / "emotion" / "config.pbtxt"
    hidden = path.rename(stack.folder / "hidden.pbtxt")
    try:
        bad = stack.bad()
    finally:
        hidden.rename(path)
    assert set(bad) == {"one: model folder"}
    assert "emotion/config.pbtxt: model emotion: there is no config.pbtxt" in bad["one: model folder"].seen


def test_a_model_that_does_not_load_is_found_in_the_folder_and_in_tritons_message(stack: Stack) -> None:
    path = stack.models / "emotion" / "config.pbtxt"
    with edited(stack, path, 'name: "emotion"', 'name: "emotions"', restart="one-triton"):
        stack.wait_triton()
        bad = stack.bad()
    assert set(bad) == {"one: model folder", "one: models"}
    assert "names it 'emotions', and its folder is 'emotion'" in bad["one: model folder"].seen
    assert "model emotion is not ready: " in bad["one: models"].seen


def test_a_renamed_input_is_found_in_the_folder_and_in_triton_in_the_same_words(stack: Stack) -> None:
    path = stack.models / "synthesis" / "config.pbtxt"
    with edited(stack, path, '"audio_input"', '"audio"', restart="one-triton"):
        stack.wait_triton()
        bad = stack.bad()
        words = "model synthesis: input 'audio_input' is not there; Triton has audio (FP32 [80, -1])"
        assert set(bad) == {"one: model folder", "one: model tensors"}
        assert words in bad["one: model folder"].seen
        assert words in bad["one: model tensors"].seen
        assert words in stack.health_when(words)
        assert words in stack.supervisor.last_lines("one-service")


def test_a_wrong_triton_endpoint_is_found_with_the_right_one(stack: Stack) -> None:
    path = stack.layout.node("one") / "ai-inference-service.yaml"
    right = yaml.safe_load(path.read_text())["ai"]["runtime"]["triton"]["grpc_endpoint"]
    wrong = "grpc_endpoint: 127.0.0.1:9"
    with edited(stack, path, f"grpc_endpoint: {right}", wrong, restart="one-service"):
        bad = stack.bad()
        assert set(bad) == {"one: triton endpoint"}
        seen = bad["one: triton endpoint"].seen
        assert f"the service calls Triton at 127.0.0.1:9, and Triton is at {right}" in seen


def test_a_taken_port_is_found_with_its_holder(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_SECONDS", 1.0)
    stack.supervisor._call("stopProcess", "one-service")
    with socket.create_server(("127.0.0.1", stack.ports["http"])):
        bad = stack.bad()
        assert f"(pid {os.getpid()})" in bad["one: ports"].seen
        assert "ports.http" in bad["one: ports"].seen
        assert set(bad) == {"one: ports", "one: service process"}


def test_a_stale_upstream_is_found_by_its_address(stack: Stack) -> None:
    path = stack.layout.gateway / "nginx.conf"
    with edited(stack, path, f"127.0.0.1:{stack.ports['http']} ", "192.0.2.9:8800 "):
        bad = stack.bad()
        assert set(bad) == {"gateway: nginx configuration"}
        seen = bad["gateway: nginx configuration"].seen
        assert "stale upstream: it sends to one (192.0.2.9:8800), which the stack does not have" in seen
        assert f"stale upstream: it lacks one (127.0.0.1:{stack.ports['http']})" in seen


def test_a_full_table_says_what_to_do(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    stack.supervisor._call("stopProcess", "one-service")
    assert command.main(["--file", str(stack.file), "--state", str(stack.folder / "state")]) == 1
    printed = capsys.readouterr().out
    assert "service process" in printed
    assert "→ make up" in printed
    assert "because of: service process" in printed


@pytest.mark.parametrize(
    ("text", "message"),
    [("config: {}", "nodes"), ("config: {gpu-inference:nodes: [{host: ftp://x}]}", "nodes[0].host")],
)
def test_a_wrong_stack_file_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    file = tmp_path / "Pulumi.wrong.yaml"
    file.write_text(text)
    assert command.main(["--file", str(file)]) == 2
    assert message in capsys.readouterr().err
