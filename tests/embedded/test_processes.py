"""The supervisor of an embedded stack: it keeps processes running, and it refuses invalid declarations.
Without models."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from msgspec import structs

from infra.embedded import cli, fleet, processes
from infra.embedded import node as node_module
from infra.embedded.declarations import GatewayDeclaration
from infra.embedded.errors import EmbeddedError
from infra.embedded.gateway import apply_gateway
from infra.embedded.launch import boot_id, start_ticks
from infra.embedded.layout import Layout
from infra.embedded.node import apply_node
from infra.embedded.program import Program
from infra.embedded.supervisor import Supervisor
from infra.gateway.render import Site
from infra.paths import PROJECT
from infra.stack import parse
from tests.embedded.conftest import declared, left_running, with_site
from tests.ports import free_ports

SLEEP = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)"]


def program(name: str, revision: str = "1", command: list[str] = SLEEP) -> Program:
    return Program(name, command, {"GREETING": 'a "quoted" 100%'}, PROJECT, revision, stop_seconds=5)


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill(pid: int | None) -> None:
    """Kills a process, as the kernel does when memory is short. Returns when the process is gone."""
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes.is_alive(pid))


def gateway() -> GatewayDeclaration:
    http, grpc = free_ports(2)
    return GatewayDeclaration(site=Site(http=http, grpc=grpc, rate_limit=None))


def test_a_program_that_dies_is_started_again(layout: Layout) -> None:
    supervisor = Supervisor(layout)
    assert supervisor.apply([program("one")]) == ["one"]
    wait_for(lambda: supervisor.state("one").name == "RUNNING")
    first = supervisor.state("one").pid
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: supervisor.state("one").pid not in (0, first))


def test_what_a_killed_program_left_is_removed_when_it_starts_again_and_when_it_is_removed(
    layout: Layout, tmp_path: Path
) -> None:
    code = f"import os, time; open({str(tmp_path)!r} + f'/left_{{os.getpid()}}', 'w'); time.sleep(600)"
    another = tmp_path / "another"
    another.touch()
    supervisor = Supervisor(layout)
    started = program("one", command=[sys.executable, "-c", code])
    supervisor.apply([replace(started, leftovers=f"{tmp_path}/left_")])

    def left() -> list[str]:
        return [path.name for path in tmp_path.glob("left_*")]

    wait_for(lambda: left() == [f"left_{supervisor.state('one').pid}"])
    first = left()
    kill(supervisor.state("one").pid)
    wait_for(lambda: len(left()) == 1 and left() != first)
    supervisor.remove(["one"])
    assert left() == []
    assert another.exists()


def test_only_a_changed_program_is_restarted(layout: Layout) -> None:
    supervisor = Supervisor(layout)
    supervisor.apply([program("one"), program("two")])
    wait_for(lambda: all(supervisor.state(name).name == "RUNNING" for name in ("one", "two")))
    before = {name: supervisor.state(name).pid for name in ("one", "two")}
    assert supervisor.apply([program("one"), program("two")]) == []
    assert supervisor.apply([program("one"), program("two", revision="2")]) == ["two"]
    assert supervisor.state("one").pid == before["one"]
    assert supervisor.state("two").pid != before["two"]


def test_the_supervisor_ends_with_its_last_program(layout: Layout) -> None:
    supervisor = Supervisor(layout)
    supervisor.apply([program("one"), program("two")])
    assert supervisor.remove(["one", "nobody"]) == ["one"]
    assert supervisor.running()
    assert supervisor.remove(["two"]) == ["two"]
    assert not supervisor.running()
    assert left_running(layout) == []


@pytest.mark.parametrize("folder", ["with blanks & 'quotes'", "é" * 100 + "/" + "long" * 20])
def test_a_stack_runs_in_a_folder_of_any_name(folder: str, tmp_path: Path) -> None:
    layout = Layout(tmp_path / folder / "dev")
    try:
        assert apply_gateway(layout, gateway()) == ["started"]
    finally:
        fleet.down(layout)
    assert left_running(layout) == []


@pytest.mark.parametrize("folder", ["a[1]", "a*", 'a"b', "a$b"])
def test_a_folder_that_supervisord_or_nginx_would_read_otherwise_is_refused(
    folder: str, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / folder / "dev")
    with pytest.raises(EmbeddedError, match="rename the folder"):
        apply_gateway(layout, gateway())
    assert left_running(layout) == []


def test_a_folder_that_tritons_shell_would_split_is_refused_at_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "with blanks" / "dev")
    with pytest.raises(EmbeddedError, match=r"with blanks/dev at ' '; rename the folder"):
        fleet.up(layout, declared())
    assert left_running(layout) == []


def test_what_runs_does_not_depend_on_who_asked(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    declaration = gateway()
    apply_gateway(layout, declaration)
    for variable in ("HOME", "LANG", "PATH", "PYTHONPATH"):
        monkeypatch.setenv(variable, "/elsewhere")
    assert apply_gateway(layout, declaration) == []


@pytest.mark.parametrize("served_before", [False, True])
def test_an_interrupted_up_stops_what_it_started_unless_the_stack_served_before(
    served_before: bool, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http, grpc, gateway_http, gateway_grpc = free_ports(4)
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(
        f"""config:
  gpu-inference:nodes:
    - {{name: never, host: embedded, runtime: remote, ports: {{http: {http}, grpc: {grpc}}}}}
  gpu-inference:remote: {{endpoint: "http://127.0.0.1:9"}}
  gpu-inference:gateway: {{mode: embedded, http: {gateway_http}, grpc: {gateway_grpc}}}
"""
    )
    monkeypatch.setattr(cli, "_stack_file", lambda arguments: file)
    monkeypatch.setattr(cli, "pulumi_cli", lambda: None)
    arguments = ["embedded", "--stack", layout.root.name, "--state", str(layout.root.parent), "up"]
    monkeypatch.setattr(sys, "argv", arguments)
    if served_before:
        apply_gateway(layout, gateway())

    def interrupt() -> None:
        wait_for(lambda: Supervisor(layout).is_declared("never-service"))
        os.kill(os.getpid(), signal.SIGINT)

    # If the tests run in the background, the shell makes them ignore this signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            cli.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert bool(left_running(layout)) == served_before


def test_a_programs_environment_is_what_was_declared_and_its_log_is_kept(layout: Layout) -> None:
    supervisor = Supervisor(layout)
    code = "import os, time; print(os.environ['GREETING'], 'HOME' in os.environ, flush=True); time.sleep(600)"
    supervisor.apply([program("one", command=[sys.executable, "-c", code])])
    wait_for(lambda: 'a "quoted" 100% False' in supervisor.last_lines("one"))


def test_down_finds_what_a_killed_supervisor_left_running(layout: Layout) -> None:
    supervisor = Supervisor(layout)
    code = "import subprocess, sys; subprocess.run(['sleep', '600'])"
    supervisor.apply([program("parent", command=[sys.executable, "-c", code]), program("other")])
    parent = supervisor.state("parent").pid
    # The four alone could be a program between its fork and its start, without the child.
    wait_for(lambda: [child.name() for child in psutil.Process(parent).children()] == ["sleep"])
    wait_for(lambda: len(left_running(layout)) == 4)
    kill(supervisor.pid)
    kill(parent)
    assert len(left_running(layout)) == 2, "the child that has no parent, and the other program"
    fleet.down(layout)
    assert left_running(layout) == []


def test_what_a_killed_supervisor_left_running_does_not_stand_in_the_way_of_the_next(layout: Layout) -> None:
    declaration = gateway()
    assert apply_gateway(layout, declaration) == ["started"]
    left = Supervisor(layout).state("gateway").pid
    kill(Supervisor(layout).pid)
    assert apply_gateway(layout, declaration) == ["started"]
    assert not processes.is_alive(left)
    assert apply_gateway(layout, declaration) == []


@pytest.mark.parametrize("differs", ["start", "boot"])
def test_down_ends_no_stranger_that_has_a_recorded_pid_now(differs: str, layout: Layout) -> None:
    layout.create()
    with subprocess.Popen(SLEEP, start_new_session=True, stdout=subprocess.DEVNULL) as stranger:
        record = {"pid": stranger.pid, "start": start_ticks(stranger.pid), "boot": boot_id()}
        (layout.pids / "one.json").write_text(json.dumps(record | {differs: "another"}))
        fleet.down(layout)
        assert stranger.poll() is None
        stranger.kill()


def test_a_taken_port_is_named_with_its_holder_and_setting_before_anything_starts(layout: Layout) -> None:
    wanted = declared()
    with (
        socket.create_server(("127.0.0.1", wanted.nodes[1].http)),
        socket.create_server(("", wanted.gateway.site.grpc)),
        pytest.raises(EmbeddedError) as refusal,
    ):
        fleet.up(layout, wanted)
    first, second = str(refusal.value).splitlines()
    assert f"node dev-2: ports.http: port {wanted.nodes[1].http} is taken by" in first
    assert f"(pid {os.getpid()})" in first
    assert second.startswith(f"gateway.grpc: port {wanted.gateway.site.grpc} is taken by")
    assert left_running(layout) == []


def test_a_process_that_cannot_start_is_shown_with_its_last_log_lines(layout: Layout) -> None:
    node = declared().nodes[0]
    broken = structs.replace(node, service={"server": {"http_port": "no port"}}, triton=None)
    with pytest.raises(EmbeddedError) as refusal:
        apply_node(layout, broken)
    assert "dev-1-service does not start" in str(refusal.value)
    assert "server.http_port" in str(refusal.value)


def test_a_process_that_ends_long_after_its_start_is_not_waited_for_for_ever(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = structs.replace(declared().nodes[0], triton=None)
    code = "import time; time.sleep(1.3); print('no more'); raise SystemExit(1)"
    monkeypatch.setattr(
        node_module,
        "node_programs",
        lambda layout, node: [program("dev-1-service", command=[sys.executable, "-c", code])],
    )
    with pytest.raises(EmbeddedError, match="dev-1-service does not start") as refusal:
        apply_node(layout, node)
    assert "no more" in str(refusal.value)


def test_a_configuration_that_nginx_refuses_changes_nothing(layout: Layout) -> None:
    declaration = gateway()
    apply_gateway(layout, declaration)
    conf = layout.gateway / "nginx.conf"
    before, pid = conf.read_text(), Supervisor(layout).state("gateway").pid
    servers = fleet.declare(stack_with_node("nobody.invalid")).gateway.site.servers
    broken = with_site(declaration, servers=servers)
    with pytest.raises(EmbeddedError, match=r"host not found in upstream .*nobody\.invalid"):
        apply_gateway(layout, broken)
    assert conf.read_text() == before
    assert Supervisor(layout).state("gateway").pid == pid
    assert apply_gateway(layout, declaration) == []


def stack_with_node(public_host: str, **more: object):  # type: ignore[no-untyped-def]
    node = {"name": "dev-1", "host": "embedded", "publicHost": public_host}
    return parse({"nodes": [node], "gateway": {"mode": "embedded"}, **more})


def test_api_keys_are_in_files_of_the_owner_alone(layout: Layout) -> None:
    declaration = with_site(gateway(), api_keys=("key-0123456789",))
    apply_gateway(layout, declaration)
    holding = [
        path
        for path in layout.root.rglob("*")
        if path.is_file() and "0123456789" in path.read_text(errors="replace")
    ]
    assert [path.name.split(".")[0] for path in holding] == ["api_keys"]
    assert holding[0].stat().st_mode & 0o077 == 0
    other = with_site(declaration, api_keys=("key-9876543210",))
    assert apply_gateway(layout, other) == ["reloaded"]
    assert not holding[0].exists()


def test_a_stack_with_other_hosts_is_refused_by_name() -> None:
    stack = parse({"nodes": ["ssh://root@192.0.2.10"]})
    with pytest.raises(EmbeddedError, match=r"node 192-0-2-10 is on ssh://root@192\.0\.2\.10; .*container"):
        fleet.declare(stack)


def test_triton_loads_only_the_models_that_the_service_asks_for() -> None:
    asr = {"model_name": "whisper-encoder", "decoder_path": "whisper-decoder"}
    config = {"ai": {"models": {"asr": asr, "synthesis": {"enabled": False}}}}
    node = fleet.declare(stack_with_node("127.0.0.1", service={"config": config})).nodes[0]
    assert node.triton is not None
    assert node.triton.models == ("emotion", "emotion-text", "whisper-decoder", "whisper-encoder")


@pytest.mark.parametrize(("command", "text"), [("apply-node", "{}"), ("apply-gateway", "no JSON")])
def test_a_bad_declaration_is_an_error_and_no_traceback(command: str, text: str, layout: Layout) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "infra.embedded", "--state", layout.root.parent, command],
        input=text,
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: the declaration on standard input:")
    assert "Traceback" not in answer.stderr


def test_the_commands_apply_and_remove_what_they_name(layout: Layout) -> None:
    declaration = gateway()

    def run(*command: str, text: str = "") -> dict[str, object]:
        answer = subprocess.run(
            [sys.executable, "-m", "infra.embedded", "--state", layout.root.parent, *command],
            input=text,
            capture_output=True,
            text=True,
            check=True,
            cwd=PROJECT,
        )
        result: dict[str, object] = json.loads(answer.stdout)
        return result

    text = declaration.to_json()
    assert run("apply-gateway", text=text) == {"url": declaration.url, "done": ["started"]}
    assert run("apply-gateway", text=text) == {"url": declaration.url, "done": []}
    assert run("remove-gateway") == {"stopped": ["gateway"]}
    assert run("remove-gateway") == {"stopped": []}
    assert left_running(layout) == []
