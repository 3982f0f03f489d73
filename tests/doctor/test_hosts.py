"""The doctor finds each fault of hosts and nodes by name, with its remedy. The hosts are doubles."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.doctor import web
from infra.doctor.findings import Finding, Status
from infra.doctor.plan import Plan
from infra.doctor.runner import chosen, run
from infra.embedded.layout import Layout
from infra.stack import Stack, parse
from tests.doctor.doubles import Hosts, edit_containers, node_api
from tests.ports import free_port

AN_HOUR_AHEAD = '#!/bin/sh\nexec /bin/date -u -d "@$(($(/bin/date +%s) + 3600))" +%s\n'


def stack_of(addresses: list[str], **more: Any) -> Stack:
    """Nodes gpu-1, gpu-2, … at these addresses, and the gateway on this computer."""
    nodes = [{"name": f"gpu-{n}", "host": f"ssh://root@{address}"} for n, address in enumerate(addresses, 1)]
    return parse(
        {
            "nodes": nodes,
            "service": {"image": "registry.example.com/service:1"},
            "models": {"path": "/srv/models"},
            "gateway": {"mode": "embedded"},
            **more,
        },
        "prod",
    )


@dataclass
class Fleet:
    """Doubles of the hosts of a stack, and the doctor on them."""

    hosts: Hosts
    stack: Stack
    folder: Path

    def findings(self, *names: str) -> list[Finding]:
        """The findings at these places. Without a name: at all nodes, but not at the gateway."""

        async def examined() -> list[Finding]:
            with tempfile.TemporaryDirectory(prefix="doctor-", dir="/tmp") as folder:
                plan = Plan(self.stack, Path(folder), Layout(self.folder / "state"), None)
                wanted = names or [node.name for node in self.stack.nodes]
                checks = [c for c in chosen(plan.checks, wanted) if names or "gateway" not in c.where]
                for check in checks:
                    check.seconds = 100  # this computer may be busy with other tests
                try:
                    return await run(checks)
                finally:
                    await plan.close()

        return asyncio.run(examined())

    def bad(self) -> dict[str, Finding]:
        """All findings that are neither ok nor skipped, by `node: check`."""
        return {
            f"{finding.where[0]}: {finding.check}": finding
            for finding in self.findings()
            if finding.status in (Status.PROBLEM, Status.WARNING)
        }

    def only(self) -> Finding:
        findings = self.bad()
        assert len(findings) == 1, findings
        return next(iter(findings.values()))


MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeFleet]:
    """Makes a fleet of healthy doubles; `answers` replace answers of their APIs."""
    opened: list[Any] = []

    def make(count: int = 1, answers: dict[str, tuple[int, Any]] | None = None, **more: Any) -> Fleet:
        api = node_api(answers)
        port = api.__enter__()
        opened.append(api)
        # This computer may be busy with other tests.
        monkeypatch.setattr(web, "ANSWER_SECONDS", 100.0)
        monkeypatch.setattr("inference_service.addresses.HTTP_PORT", port)
        monkeypatch.setattr("inference_service.addresses.TRITON_HTTP_PORT", port)
        hosts = Hosts(tmp_path / "ssh")
        for name, value in hosts.environment.items():
            monkeypatch.setenv(name, value)
        addresses = [f"192.0.2.{number}" for number in range(1, count + 1)]
        stack = stack_of(addresses, **more)
        for address in addresses:
            hosts.add(address, stack)
        return Fleet(hosts, stack, tmp_path)

    yield make
    for api in opened:
        api.__exit__(None, None, None)


def host(fleet: Fleet, number: int = 1) -> Path:
    return fleet.hosts.folder / "hosts" / f"192.0.2.{number}"


def test_a_healthy_fleet_has_no_findings(fleet: MakeFleet) -> None:
    findings = fleet(2).findings()
    assert {finding.status for finding in findings} == {Status.OK}, [f for f in findings if f.status != "ok"]
    assert {"ssh", "docker", "gpu", "nvidia runtime", "clock", "disk", "ports", "models", "inference"} <= {
        finding.check for finding in findings
    }


RULES = {
    "/api/v1/ai/info": (
        200,
        {
            "data": {
                "model_cards": {
                    "asr": {"name": "asr", "kind": "neural", "caveat": None},
                    "synthesis": {"name": "synthesis", "kind": "rule", "caveat": "neural voices pass"},
                }
            }
        },
    )
}


def model_kinds(fleet: MakeFleet, models: dict[str, Any]) -> Finding:
    made = fleet(1, answers=RULES, models=models)
    (found,) = [finding for finding in made.findings() if finding.check == "model kinds"]
    return found


def test_a_node_that_serves_rules_is_a_warning_with_what_they_cannot_do(fleet: MakeFleet) -> None:
    found = model_kinds(fleet, {})
    assert found.status is Status.WARNING
    assert "synthesis is a rule" in found.seen
    assert "synthesis: neural voices pass" in found.seen
    assert "asr" not in found.seen
    assert "python -m infra.models export" in found.remedy


@pytest.mark.parametrize("allowed", [True, False])
def test_rules_of_which_the_stack_says_what_to_do_are_fine(fleet: MakeFleet, allowed: bool) -> None:
    found = model_kinds(fleet, {"allowRules": allowed})
    assert found.status is Status.OK
    assert "synthesis is a rule" in found.seen


@pytest.mark.parametrize(
    ("message", "seen", "remedy"),
    [
        (
            "No ED25519 host key is known for 192.0.2.1\nHost key verification failed.",
            "its host key is not known",
            "ssh-keyscan 192.0.2.1 >> ~/.ssh/known_hosts",
        ),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
            "its host key is not the known one",
            "ssh-keygen -R 192.0.2.1",
        ),
        ("ssh: connect to host 192.0.2.1 port 2222: Connection refused", "connection refused", "sshd"),
        ("root@192.0.2.1: Permission denied (publickey).", "key is not accepted", "authorized_keys"),
        ("ssh: Could not resolve hostname gpu: Name or service not known", "cannot be resolved", "DNS"),
    ],
)
def test_errors_of_ssh_are_distinguished(fleet: MakeFleet, message: str, seen: str, remedy: str) -> None:
    one = fleet()
    one.hosts.refuse("192.0.2.1", message)
    finding = one.only()
    assert finding.check == "ssh"
    assert seen in finding.seen
    assert remedy in finding.remedy


def test_a_skipped_check_names_the_first_failure(fleet: MakeFleet) -> None:
    one = fleet(2)
    one.hosts.refuse("192.0.2.1", "ssh: connect to host 192.0.2.1 port 22: No route to host")
    findings = one.findings()
    skipped = [finding for finding in findings if finding.status is Status.SKIPPED]
    assert {finding.where[0] for finding in skipped} == {"gpu-1"}
    assert {"triton", "health", "inference", "disk"} <= {finding.check for finding in skipped}
    assert all(finding.seen.startswith("because of: ssh") for finding in skipped if finding.check == "triton")


def test_a_stopped_docker_is_reported_in_the_daemons_message(fleet: MakeFleet) -> None:
    one = fleet()
    message = (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    )
    (host(one) / "docker-failure").write_text(message)
    finding = one.only()
    assert finding.check == "docker"
    assert message in finding.seen
    assert "systemctl start docker" in finding.remedy


def test_an_old_docker_is_reported(fleet: MakeFleet) -> None:
    one = fleet()
    (host(one) / "version").write_text("19.03.8\n")
    assert "Docker 19.03.8" in one.only().seen


def test_a_host_without_the_nvidia_runtime_is_reported(
    fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fleet()
    (host(one) / "runtimes").write_text('{"runc":{}}\n')
    finding = one.only()
    assert finding.check == "nvidia runtime"
    assert "nvidia-container-toolkit" in finding.remedy


def test_a_gpu_that_the_driver_does_not_see_is_reported_in_nvidia_smis_message(fleet: MakeFleet) -> None:
    one = fleet()
    message = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    (host(one) / "nvidia-smi").write_text(f'#!/bin/sh\necho "{message}"\nexit 9\n')
    finding = one.only()
    assert (finding.check, finding.seen) == ("gpu", message)
    assert "NVIDIA driver" in finding.remedy


def test_a_gpu_index_that_is_missing_is_reported(fleet: MakeFleet) -> None:
    nodes = [{"name": "gpu-1", "host": "ssh://root@192.0.2.1", "gpus": [0, 5]}]
    assert "GPU 5 is not there; nvidia-smi has: 0, 1" in fleet(nodes=nodes).only().seen


def test_a_container_that_lost_its_gpu_is_reported_with_its_restart(fleet: MakeFleet) -> None:
    one = fleet()
    docker = host(one) / "docker"
    lost = "echo 'Failed to initialize NVML: Unknown Error'; exit 255;;"
    docker.write_text(docker.read_text().replace('"exec "*) exec nvidia-smi -L;;', f'"exec "*) {lost}'))
    finding = one.only()
    assert finding.check == "gpu in a container"
    assert "in prod-gpu-1-triton: Failed to initialize NVML: Unknown Error" in finding.seen
    assert finding.remedy.startswith("ssh root@192.0.2.1 'docker restart prod-gpu-1-triton'")


def test_a_container_that_was_removed_is_reported_with_the_update_that_creates_it(fleet: MakeFleet) -> None:
    one = fleet()
    edit_containers(host(one), "service")
    finding = one.bad()["gpu-1: service container"]
    assert finding.seen == "there is no container prod-gpu-1-service"
    assert finding.remedy.startswith("`pulumi up --refresh --stack prod`")


def test_a_container_that_no_driver_reaches_is_reported(fleet: MakeFleet) -> None:
    one = fleet()
    edit_containers(host(one), "triton")
    # The double of `docker run` runs it, as that of the host does: only in a container it fails.
    docker = host(one) / "docker"
    docker.write_text(
        docker.read_text().replace('"run --rm") exec nvidia-smi -L;;', '"run --rm") echo no driver; exit 1;;')
    )
    finding = one.bad()["gpu-1: gpu in a container"]
    assert "in a temporary container of " in finding.seen
    assert "no driver" in finding.seen
    assert finding.remedy == "install nvidia-container-toolkit on the host and restart Docker"


def test_a_clock_off_by_an_hour_is_reported_and_the_others_are_not_blamed(fleet: MakeFleet) -> None:
    one = fleet(4)
    (host(one, 3) / "date").write_text(AN_HOUR_AHEAD)
    (host(one, 3) / "date").chmod(0o755)
    finding = one.only()
    assert (finding.where, finding.check) == (("gpu-3",), "clock")
    assert "ahead of the fleet's median" in finding.seen
    assert "timedatectl set-ntp true" in finding.remedy


def test_a_wrong_clock_on_this_computer_blames_no_host(fleet: MakeFleet) -> None:
    one = fleet(3)
    for number in (1, 2, 3):
        (host(one, number) / "date").write_text(AN_HOUR_AHEAD)
        (host(one, number) / "date").chmod(0o755)
    assert one.bad() == {}


def test_a_full_disk_is_reported(fleet: MakeFleet) -> None:
    one = fleet()
    row = "/dev/sda1 100000000 99990000 {} 100% /var"
    (host(one) / "df").write_text(f'#!/bin/sh\necho "{row.format(10000)}"\n')
    (host(one) / "df").chmod(0o755)
    finding = one.only()
    assert finding.check == "disk"
    assert "10 MiB free on /var" in finding.seen
    assert "docker image prune" in finding.remedy


def test_a_port_held_by_another_container_is_reported_by_its_name(fleet: MakeFleet) -> None:
    one = fleet()
    edit_containers(host(one), "service")
    (host(one) / "published").write_text("old-node-service-1\t0.0.0.0:8800->8800/tcp\n")
    findings = one.bad()
    finding = findings["gpu-1: ports"]
    assert finding.seen == "nodes[0].ports.http: port 8800 is taken by the container old-node-service-1"
    assert "docker stop old-node-service-1" in finding.remedy
    assert "there is no container prod-gpu-1-service" in findings["gpu-1: service container"].seen
    assert len(findings) == 2


def test_a_port_held_by_a_process_is_reported_by_its_name(fleet: MakeFleet) -> None:
    one = fleet()
    (host(one) / "published").write_text("")
    listening = "   0: 00000000:2260 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1"
    (host(one) / "proc" / "net" / "tcp").write_text(f"{listening}\n")
    (host(one) / "ss").write_text("#!/bin/sh\necho 'LISTEN 0 9 *:8800 *:* users:((\"httpd\",pid=77,fd=6))'\n")
    (host(one) / "ss").chmod(0o755)
    assert one.only().seen == "nodes[0].ports.http: port 8800 is taken by httpd (pid 77)"


def test_a_container_that_ran_out_of_memory_is_reported_with_its_last_log_lines(fleet: MakeFleet) -> None:
    one = fleet()
    ended = {"Status": "exited", "ExitCode": 137, "OOMKilled": True}
    edit_containers(host(one), "triton", State=ended)
    (host(one) / "log").write_text("I loading whisper\n")
    finding = one.bad()["gpu-1: triton container"]
    assert "exit code 137, killed by the kernel: out of memory" in finding.seen
    assert "I loading whisper" in finding.seen
    assert "triton.memory" in finding.remedy


UNHEALTHY = {"Health": {"Status": "unhealthy", "Log": [{"Output": "HTTP 503"}]}}


def test_a_container_is_unhealthy_if_its_own_check_says_so_now(fleet: MakeFleet) -> None:
    """Docker's word is old: it runs the check again only after its interval, as after `docker unpause`."""
    one = fleet()
    check = {"Healthcheck": {"Test": ["CMD", "python3", "-m", "inference_service.healthcheck"]}}
    edit_containers(host(one), "service", State=UNHEALTHY, Config=check)
    assert one.bad() == {}
    # The double of `docker exec` runs it.
    (host(one) / "nvidia-smi").write_text("#!/bin/sh\nexit 1\n")
    assert "unhealthy: HTTP 503" in one.bad()["gpu-1: service container"].seen


def test_a_remedy_reaches_the_host_as_the_stack_does(fleet: MakeFleet) -> None:
    one = fleet(ssh={"privateKeyFile": "/keys/gpu", "proxyJump": "bastion.example.com"})
    edit_containers(host(one), "service", State={"Status": "exited"})
    assert one.only().remedy == (
        "ssh -i /keys/gpu -o IdentitiesOnly=yes -J bastion.example.com root@192.0.2.1 "
        "'docker start prod-gpu-1-service'"
    )


def test_a_container_that_keeps_restarting_is_reported_with_its_last_end(fleet: MakeFleet) -> None:
    one = fleet()
    now = datetime.datetime.now(datetime.UTC).isoformat()
    edit_containers(host(one), "triton", RestartCount=4, State={"StartedAt": now, "ExitCode": 139})
    finding = one.only()
    assert (finding.check, finding.status) == ("triton container", Status.WARNING)
    assert "restarted 4 times" in finding.seen
    assert "exit code 139" in finding.seen


def test_an_image_that_is_not_the_declared_one_is_reported_as_drift(fleet: MakeFleet) -> None:
    one = fleet()
    edit_containers(host(one), "service", Config={"Image": "registry.example.com/service:0"})
    finding = one.only()
    assert (finding.check, finding.status) == ("drift", Status.WARNING)
    assert "its image is registry.example.com/service:0, declared is" in finding.seen
    assert finding.remedy == "`pulumi up --refresh --stack prod`, or change the stack file"


def test_settings_changed_by_hand_are_reported_as_drift_by_their_key(fleet: MakeFleet) -> None:
    one = fleet()
    one.hosts.write_settings(host(one), stack_of(["192.0.2.1"], service={"workers": 7}), one.stack.nodes[0])
    finding = one.only()
    assert "its settings differ in server.workers: 7, declared is 1" in finding.seen


def test_a_wrong_triton_endpoint_is_reported_with_the_right_one(fleet: MakeFleet) -> None:
    one = fleet()
    edit_containers(host(one), "service", Config={"Env": ["AI__RUNTIME__TRITON__GRPC_ENDPOINT=triton:9001"]})
    finding = one.only()
    assert finding.check == "triton endpoint"
    assert "calls Triton at triton:9001, and Triton is at triton:8001" in finding.seen


def test_settings_that_the_service_cannot_read_are_reported_in_its_own_message(fleet: MakeFleet) -> None:
    one = fleet()
    edit_containers(host(one), "service", Config={"Env": ["SERVER__WORKERS=none"]})
    finding = one.only()
    assert finding.check == "settings"
    assert finding.seen.startswith("server.workers (from SERVER__WORKERS): ")


def test_a_model_that_is_not_ready_is_reported_in_tritons_message(fleet: MakeFleet) -> None:
    reason = "failed to load 'emotion': no weights\n\nAt:\n  /models/emotion/1/model.py(9): load\n"
    index = [{"name": name, "state": "READY"} for name in ("asr", "emotion-text", "synthesis")]
    index.append({"name": "emotion", "version": "1", "state": "UNAVAILABLE", "reason": reason})
    finding = fleet(answers={"/v2/repository/index": (200, index)}).only()
    assert finding.check == "models"
    assert finding.seen == "model emotion is not ready: failed to load 'emotion': no weights"


def test_a_renamed_input_is_reported_by_name(fleet: MakeFleet) -> None:
    described = {
        "name": "emotion",
        "inputs": [{"name": "audio", "datatype": "FP32", "shape": [-1]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [6]}],
    }
    finding = fleet(answers={"/v2/models/emotion": (200, described)}).only()
    assert finding.check == "model tensors"
    assert "model emotion: input 'audio_input' is not there; Triton has audio (FP32 [-1])" in finding.seen
    assert "ai.models.*.input_name" in finding.remedy


def test_a_service_that_nothing_answers_for_is_reported(
    fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fleet()
    monkeypatch.setattr("inference_service.addresses.HTTP_PORT", free_port())
    finding = one.bad()["gpu-1: service"]
    assert "cannot be reached" in finding.seen
    assert "docker logs" in finding.remedy


def test_the_message_of_the_nodes_health_is_reported_with_its_remedy(
    fleet: MakeFleet,
) -> None:
    message = "edge-llm error (code -2): json format error"
    finding = fleet(answers={"/api/v1/ai/asr": (503, {"message": message})}).only()
    assert finding.check == "inference"
    assert finding.seen == f"HTTP 503: {message}"
    assert "ai.request.audio_stream_chunk_delay_ms" in finding.remedy


def test_the_gateway_is_not_blamed_for_a_host_that_is_cut_off(fleet: MakeFleet) -> None:
    one = fleet(2, gateway={"host": "ssh://root@192.0.2.2", "image": "registry.example.com/nginx:1"})
    one.hosts.cut_off("192.0.2.1", seconds=0.2)
    upstream = next(
        finding for finding in one.findings("gateway", "gpu-1") if finding.check == "upstream gpu-1"
    )
    assert (upstream.status, upstream.seen) == (Status.SKIPPED, "because of: ssh")


def test_two_faults_at_once_are_both_found(fleet: MakeFleet) -> None:
    one = fleet(2)
    one.hosts.refuse("192.0.2.1", "Host key verification failed.")
    edit_containers(host(one, 2), "service", State={"Status": "exited", "ExitCode": 1})
    assert set(one.bad()) == {"gpu-1: ssh", "gpu-2: service container"}


def test_hosts_are_asked_all_at_once_and_those_that_are_cut_off_hold_up_no_other(fleet: MakeFleet) -> None:
    one = fleet(32)
    dead = [f"192.0.2.{number}" for number in range(3, 32, 4)]
    one.hosts.cut_off_together(dead)
    findings = one.bad()
    assert set(findings) == {f"gpu-{address.rpartition('.')[2]}: ssh" for address in dead}
    assert len(dead) == 8
