"""Faults planted on the real hosts, alone and in pairs. The doctor finds each by name, and nothing else.

Two doubles stand for what one machine lacks: `nvidia-smi` (it has no GPU) and the `date` of one host (all
hosts share a clock).
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra.connection import Connection
from infra.docker_engine import create_again
from infra.paths import PROJECT
from tests.e2e.deployment import Site
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.lab.images import SERVICE_BASE
from tests.e2e.lab.ssh import make_key

NVIDIA_SMI = """#!/bin/sh
case $1 in
  -L) echo "GPU 0: a double (UUID: GPU-0)";;
  *) echo "0, a double, 550.54, 900 MiB, 23034 MiB";;
esac
"""
# As the real hook does: it puts the driver's tools into a container that requests GPUs.
NVIDIA_HOOK = r"""#!/bin/sh
bundle=$(sed 's/.*"bundle": *"\([^"]*\)".*/\1/')
root=$(sed 's/.*"root": *{[^}]*"path": *"\([^"]*\)".*/\1/' "$bundle/config.json")
cp /usr/local/bin/nvidia-smi "$root/usr/local/bin/nvidia-smi"
"""
AN_HOUR_AHEAD = '#!/bin/sh\nexec /usr/bin/date -u -d "@$(($(/usr/bin/date +%s) + 3600))" +%s\n'


@dataclass
class Report:
    """The doctor's JSON and its exit status."""

    status: int
    seconds: float
    findings: list[dict[str, Any]] = field(repr=False)

    @property
    def wrong(self) -> dict[str, dict[str, Any]]:
        """Every problem and warning, by `node: check`."""
        return {
            f"{finding['where'][0]}: {finding['check']}": finding
            for finding in self.findings
            if finding["status"] in ("problem", "warning")
        }

    @property
    def skipped(self) -> dict[str, str]:
        """Every skipped check with its reason, by `node: check`."""
        return {
            f"{finding['where'][-1]}: {finding['check']}": finding["seen"]
            for finding in self.findings
            if finding["status"] == "skipped"
        }

    def found(self, *names: str) -> None:
        """Checks that all of these are wrong and nothing else, except that nginx may avoid a node that
        failed."""
        assert set(self.wrong) - {"gateway: upstreams avoided"} == set(names), self.text
        assert self.status == 1

    @property
    def text(self) -> str:
        return json.dumps(list(self.wrong.values()), indent=1)

    def only(self, name: str) -> dict[str, Any]:
        """The only problem or warning. Checks that it has this name."""
        self.found(name)
        return self.wrong[name]


def doctor(site: Site, config: dict[str, Any] | None = None, *arguments: str) -> Report:
    """Run the doctor from the deployed copy of the project, on the present stack file."""
    site.program.configure(config or site.config)
    began = time.monotonic()
    done = site.program.module("infra.doctor", "--stack", site.program.stack, "--json", *arguments)
    seconds = time.monotonic() - began
    site.program.configure(site.config)
    assert done.returncode in (0, 1), done.stderr
    return Report(done.returncode, seconds, json.loads(done.stdout)["findings"])


def run_remedy(site: Site, finding: dict[str, Any], others: Set[str] = frozenset()) -> None:
    """Runs the commands of a finding's remedy as they are printed, and checks that they healed the fleet.

    The words between commands, and the alternatives after them, are left out. `others` are the findings that
    the site has anyway, by name.
    """
    text = finding["remedy"].removeprefix("if the host was reinstalled: ")
    if text.startswith("`"):
        # Without a terminal Pulumi asks nobody.
        command = f"{text.split('`')[1]} --yes --skip-preview"
    else:
        command = re.split(r", and |; | \(", text)[0].replace(", then ", " && ")
    done = site.program.command("bash", "-c", command, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    await_health(site)
    # nginx avoids for some seconds a node that failed.
    wait_until(f"the doctor finds nothing after: {command}", lambda: others >= doctor(site).wrong.keys(), 60)


def put(host: Host, path: str, text: str) -> None:
    """Write an executable on a host."""
    host.run("sh", "-c", f"cat >{path} && chmod 755 {path}", stdin=text.encode())


def container(host: Host, part: str) -> str:
    """The name of a part's container."""
    return next(name for name in host.containers(everything=True) if name.endswith(part))


def give_gpus(site: Site) -> None:
    """The double of `nvidia-smi` on the GPU hosts and in the containers that request GPUs."""
    for host in site.gpu_hosts():
        put(host, "/usr/local/bin/nvidia-smi", NVIDIA_SMI)
        put(host, "/usr/local/bin/nvidia-container-runtime-hook", NVIDIA_HOOK)
        for name in host.containers():
            if name.endswith(("-triton", "-llm-node")):
                host.docker("restart", "--time", "5", name)


def await_health(site: Site) -> None:
    for host in site.gpu_hosts():
        wait_until(f"{host.name} is healthy", partial(site.healthy, host), 60)


@pytest.fixture(scope="module")
def deployed_with_gpus(deployed: Site) -> Site:
    deployed.settle()
    give_gpus(deployed)
    await_health(deployed)
    return deployed


@pytest.fixture
def clinic(deployed_with_gpus: Site) -> Iterator[Site]:
    """The site, healthy. Each test removes its own fault."""
    yield deployed_with_gpus
    for host in deployed_with_gpus.fleet.hosts.values():
        host.restore()
    await_health(deployed_with_gpus)


@pytest.fixture
def first(clinic: Site) -> Host:
    return clinic.fleet.hosts["gpu-1"]


@pytest.fixture
def second(clinic: Site) -> Host:
    return clinic.fleet.hosts["gpu-2"]


@contextmanager
def moved_away(host: Host, path: str) -> Iterator[None]:
    host.run("mv", path, f"{path}.away")
    try:
        yield
    finally:
        host.run("mv", f"{path}.away", path)


@contextmanager
def stopped(host: Host, part: str) -> Iterator[str]:
    name = container(host, part)
    host.docker("stop", "--time", "1", name)
    try:
        yield name
    finally:
        host.docker("start", name)


@contextmanager
def edited_model(host: Host, model: str, old: str, new: str) -> Iterator[None]:
    """Replaces one text in a model's configuration on the host."""
    repository = "/opt/gpu-inference/e2e/gpu-2/models/repository"
    path = host.run("readlink", "-f", f"{repository}/{model}/config.pbtxt").stdout.strip()
    before = host.run("cat", path).stdout
    assert old in before
    host.run("sh", "-c", f"cat >{path}", stdin=before.replace(old, new, 1).encode())
    try:
        yield
    finally:
        host.run("sh", "-c", f"cat >{path}", stdin=before.encode())


def restart_triton(host: Host) -> None:
    host.docker("restart", "--time", "1", container(host, "-triton"))


def live(host: Host) -> bool:
    """Whether Triton has read its models."""
    ready = "curl --fail --silent http://127.0.0.1:8000/v2/health/live"
    return host.docker("exec", container(host, "-triton"), "sh", "-c", ready, check=False).returncode == 0


# One fault at a time ------------------------------------------------------------------------------------


def test_a_healthy_fleet_is_all_green(clinic: Site) -> None:
    report = doctor(clinic)
    assert report.wrong == {}, report.text
    assert report.skipped == {}
    assert report.status == 0
    checks = {(finding["where"][0], finding["check"]) for finding in report.findings}
    assert {("gpu-1", "inference"), ("gateway", "gateway inference"), ("gpu-2", "model tensors")} <= checks
    assert report.seconds < 60


def test_the_findings_hold_no_key(clinic: Site) -> None:
    from tests.e2e.deployment import API_KEY

    assert API_KEY not in json.dumps(doctor(clinic).findings)


def test_a_wrong_ssh_port(clinic: Site) -> None:
    config = copy.deepcopy(clinic.config)
    config["nodes"][1]["host"] += ":2222"
    found = doctor(clinic, config).only("gpu-2: ssh")
    assert "connection refused" in found["seen"].lower()
    assert "sshd" in found["remedy"]


def test_an_unknown_host_key(clinic: Site, second: Host) -> None:
    known_hosts = clinic.fleet.operator.known_hosts
    before = known_hosts.read_text()
    clinic.fleet.operator.distrust(second.address)
    try:
        found = doctor(clinic).only("gpu-2: ssh")
        assert "its host key is not known" in found["seen"]
        assert f"ssh-keyscan {second.address} >> {known_hosts}" in found["remedy"]
        run_remedy(clinic, found)
    finally:
        known_hosts.write_text(before)


def test_a_changed_host_key(clinic: Site, second: Host) -> None:
    operator = clinic.fleet.operator
    before = operator.known_hosts.read_text()
    operator.trust(second.address, make_key(operator.folder / f"other-{time.monotonic_ns()}"))
    try:
        found = doctor(clinic).only("gpu-2: ssh")
        assert "its host key is not the known one" in found["seen"]
        assert f"ssh-keygen -R {second.address} -f {operator.known_hosts}" in found["remedy"]
        run_remedy(clinic, found)
    finally:
        operator.known_hosts.write_text(before)


def test_docker_that_does_not_answer(clinic: Site, second: Host) -> None:
    with moved_away(second, "/run/docker.sock"):
        found = doctor(clinic).only("gpu-2: docker")
    assert "Cannot connect to the Docker daemon" in found["seen"]
    assert "systemctl start docker" in found["remedy"]


def test_no_nvidia_runtime(clinic: Site, second: Host) -> None:
    with moved_away(second, "/usr/local/bin/nvidia-container-runtime-hook"):
        found = doctor(clinic).only("gpu-2: nvidia runtime")
    assert "nvidia-container-toolkit" in found["remedy"]


def test_a_driver_that_does_not_answer(clinic: Site, second: Host) -> None:
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    put(second, "/usr/local/bin/nvidia-smi", f'#!/bin/sh\necho "{said}"\nexit 9\n')
    try:
        found = doctor(clinic).only("gpu-2: gpu")
    finally:
        put(second, "/usr/local/bin/nvidia-smi", NVIDIA_SMI)
    assert found["seen"] == said


def test_a_stopped_service(clinic: Site, second: Host) -> None:
    with stopped(second, "-service") as name:
        report = doctor(clinic)
        found = report.wrong["gpu-2: service container"]
        report.found("gpu-2: service container")
        assert f"{name}: exited, exit code" in found["seen"]
        assert f"start {name}" in found["remedy"]
        assert report.skipped["gpu-2: upstream gpu-2"] == "because of: service container"
        run_remedy(clinic, found)


@pytest.mark.long
def test_a_removed_container(clinic: Site, second: Host) -> None:
    name = container(second, "-service")
    second.docker("rm", "--force", name)
    found = doctor(clinic).only("gpu-2: service container")
    assert found["seen"] == f"there is no container {name}"
    run_remedy(clinic, found)


def test_a_container_that_lost_its_gpu(clinic: Site, second: Host) -> None:
    name = container(second, "-triton")
    # The container's root is read-only; what Docker mounted on the host is not.
    merged = second.docker("inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", name).stdout.strip()
    tool = f"{merged}/usr/local/bin/nvidia-smi"
    put(second, tool, "#!/bin/sh\necho 'Failed to initialize NVML: Unknown Error'\nexit 255\n")
    found = doctor(clinic).only("gpu-2: gpu in a container")
    assert "Failed to initialize NVML: Unknown Error" in found["seen"]
    run_remedy(clinic, found)


def test_a_killed_triton(clinic: Site, second: Host) -> None:
    name = container(second, "-triton")
    second.docker("kill", name)
    try:
        report = doctor(clinic)
        found = report.only("gpu-2: triton container")
        assert "exit code 137" in found["seen"]
        assert f"start {name}" in found["remedy"]
        assert report.skipped["gpu-2: health"] == "because of: triton container"
        run_remedy(clinic, found)
    finally:
        second.docker("start", name)


def test_a_taken_port(clinic: Site, second: Host) -> None:
    with stopped(second, "-service"):
        squatter = ("--name", "squatter", "--publish", "8800:8800", SERVICE_BASE, "sleep", "600")
        second.docker("run", "--detach", *squatter)
        try:
            report = doctor(clinic)
            found = report.wrong["gpu-2: ports"]
            assert "port 8800 is taken by the container squatter" in found["seen"]
            assert "nodes[1].ports.http" in found["remedy"]
            report.found("gpu-2: ports", "gpu-2: service container")
            [command] = re.findall(r"\((docker [^)]*)\)", found["remedy"])
            second.run("sh", "-c", command)
            run_remedy(clinic, report.wrong["gpu-2: service container"])
        finally:
            second.docker("rm", "--force", "squatter")


def test_a_deleted_configuration(clinic: Site, second: Host) -> None:
    repository = "/opt/gpu-inference/e2e/gpu-2/models/repository"
    path = second.run("readlink", "-f", f"{repository}/emotion/config.pbtxt").stdout.strip()
    with moved_away(second, path):
        report = doctor(clinic)
    report.found("gpu-2: model folder", "gpu-2: model copies")
    found = report.wrong["gpu-2: model folder"]
    assert "emotion/config.pbtxt: model emotion: there is no config.pbtxt" in found["seen"]


@pytest.mark.long
def test_a_wrong_triton_endpoint(clinic: Site, second: Host) -> None:
    name = container(second, "-service")
    [described] = json.loads(second.docker("inspect", name).stdout)
    variables = dict(each.split("=", 1) for each in described["Config"]["Env"])
    settings = json.loads(variables["AI_CONFIG_TEXT"])
    settings["ai"]["runtime"]["triton"] = {"endpoint": "http://triton:9000"}
    variables["AI_CONFIG_TEXT"] = json.dumps(settings)
    described["Config"]["Env"] = [f"{key}={value}" for key, value in variables.items()]
    second.docker("stop", "--time", "1", name)
    second.docker("rename", name, "set-aside")
    host = Connection(second.url, ("-F", str(clinic.fleet.operator.config)))
    wrong = create_again(host, described, {})
    second.docker("rm", "set-aside")
    second.docker("start", wrong)
    report = doctor(clinic)
    found = report.wrong["gpu-2: triton endpoint"]
    assert "ai.runtime.triton.endpoint is http://triton:9000" in found["seen"]
    assert "triton:8001" in found["remedy"]
    assert "its settings differ in ai.runtime.triton" in report.wrong["gpu-2: drift"]["seen"]
    run_remedy(clinic, report.wrong["gpu-2: drift"])


def test_a_stale_upstream(clinic: Site) -> None:
    file = "/opt/gpu-inference/e2e/gateway/current/nginx.conf"
    before = clinic.gateway.run("cat", file).stdout
    address = clinic.fleet.hosts["gpu-2"].address
    clinic.gateway.run("sh", "-c", f"cat >{file}", stdin=before.replace(address, "192.0.2.9").encode())
    finding = doctor(clinic).only("gateway: nginx configuration")
    assert "stale upstream: it sends to gpu-2 (192.0.2.9:8800)" in finding["seen"]
    assert f"stale upstream: it lacks gpu-2 ({address}:8800)" in finding["seen"]
    containers = clinic.gateway.containers()

    run_remedy(clinic, finding)

    assert clinic.gateway.run("cat", file).stdout == before
    assert clinic.gateway.containers() == containers


def test_a_full_disk(clinic: Site, second: Host) -> None:
    second.run(
        "sh",
        "-ec",
        "mkdir -p /mnt/there; mount --bind /opt/gpu-inference /mnt/there;"
        "mount -t tmpfs -o size=1m tmpfs /opt/gpu-inference; mkdir /opt/gpu-inference/e2e;"
        "mount --bind /mnt/there/e2e /opt/gpu-inference/e2e;"
        "dd if=/dev/zero of=/opt/gpu-inference/full bs=4k 2>/dev/null || true",
    )
    try:
        found = doctor(clinic).only("gpu-2: disk")
    finally:
        second.run("sh", "-ec", "umount /opt/gpu-inference/e2e /opt/gpu-inference /mnt/there")
    assert "0 MiB free on /opt/gpu-inference" in found["seen"]
    assert "docker image prune" in found["remedy"]


def test_a_clock_off_by_an_hour(clinic: Site, second: Host) -> None:
    put(second, "/usr/local/bin/date", AN_HOUR_AHEAD)
    try:
        found = doctor(clinic).only("gpu-2: clock")
    finally:
        second.run("rm", "/usr/local/bin/date")
    assert "ahead of the fleet's median" in found["seen"]
    assert "timedatectl set-ntp true" in found["remedy"]


def test_a_host_that_is_cut_off(clinic: Site, second: Host) -> None:
    second.cut()
    report = doctor(clinic)
    assert report.seconds < 60
    report.found("gpu-2: ssh")
    assert (
        "timed out" in report.wrong["gpu-2: ssh"]["seen"] or "No route" in report.wrong["gpu-2: ssh"]["seen"]
    )
    assert report.skipped["gpu-2: upstream gpu-2"] == "because of: ssh"


def test_one_node_alone(clinic: Site) -> None:
    clinic.fleet.hosts["gpu-2"].cut()
    report = doctor(clinic, None, "--node", "gpu-1")
    assert report.status == 0
    assert not any("gpu-2" in finding["where"] for finding in report.findings)


# In pairs -----------------------------------------------------------------------------------------------


def test_a_renamed_input_and_a_wrong_datatype(clinic: Site, second: Host) -> None:
    with (
        edited_model(second, "synthesis", '"audio_input"', '"audio"'),
        edited_model(second, "emotion", "TYPE_FP32", "TYPE_INT16"),
    ):
        restart_triton(second)
        wait_until("Triton is back", lambda: live(second), 60)
        report = doctor(clinic)
    restart_triton(second)
    renamed = "model synthesis: input 'audio_input' is not there; Triton has audio (FP32 [80, -1])"
    retyped = "model emotion: input 'audio_input' has datatype INT16, expected FP32"
    assert set(report.wrong) - {"gateway: upstreams avoided"} == {
        "gpu-2: model copies",
        "gpu-2: model folder",
        "gpu-2: model tensors",
    }
    for check in ("gpu-2: model folder", "gpu-2: model tensors"):
        assert renamed in report.wrong[check]["seen"]
        assert retyped in report.wrong[check]["seen"]


def test_a_stopped_service_and_a_cut_host(clinic: Site, first: Host, second: Host) -> None:
    second.cut()
    with stopped(first, "-service"):
        report = doctor(clinic)
    report.found("gpu-1: service container", "gpu-2: ssh")
    assert report.skipped["gateway: gateway inference"] == "because of: gpu-1 health, gpu-2 health"


def test_an_unknown_host_key_and_a_killed_triton_on_another_host(
    clinic: Site, first: Host, second: Host
) -> None:
    known_hosts = clinic.fleet.operator.known_hosts
    before = known_hosts.read_text()
    clinic.fleet.operator.distrust(second.address)
    try:
        with stopped(first, "-triton"):
            report = doctor(clinic)
    finally:
        known_hosts.write_text(before)
    report.found("gpu-1: triton container", "gpu-2: ssh")


# Edge-LLM -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def edge(deployed: Site) -> Iterator[Site]:
    """gpu-2 as an Edge-LLM node. Its unit manager is a protocol double."""

    def build(dockerfile: str) -> dict[str, object]:
        args = {"BASE_IMAGE": SERVICE_BASE}
        return {"build": {"context": "tests", "dockerfile": dockerfile, "args": args}}

    deployed.settle()
    deployed.node("gpu-2")["runtime"] = "edge-llm"
    deployed.config["edgeLlm"] = {
        "unitManager": build("e2e/edge_llm/unit-manager.Dockerfile"),
        "llmNode": build("e2e/edge_llm/llm-node.Dockerfile"),
    }
    deployed.up().check()
    give_gpus(deployed)
    await_health(deployed)
    yield deployed


def test_a_healthy_edge_llm_node_answers_a_setup(edge: Site) -> None:
    report = doctor(edge)
    assert report.wrong == {}, report.text
    assert report.skipped == {}
    assert any(finding["check"] == "edge-llm setup" for finding in report.findings)


def test_a_unit_manager_that_is_down(edge: Site) -> None:
    second = edge.fleet.hosts["gpu-2"]
    with stopped(second, "-unit-manager") as name:
        report = doctor(edge)
        report.found("gpu-2: unit-manager container")
        found = report.wrong["gpu-2: unit-manager container"]
        assert f"start {name}" in found["remedy"]
        assert report.skipped["gpu-2: edge-llm setup"] == "because of: unit-manager container"
        run_remedy(edge, found)


# Many hosts ---------------------------------------------------------------------------------------------


@pytest.mark.long
def test_thirty_two_hosts_over_ssh_of_which_eight_are_cut_off(
    tmp_path: Path,
) -> None:
    command = ["unshare", "--net", sys.executable, "-m", "tests.e2e.many_hosts", str(tmp_path)]
    began = time.monotonic()
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    report = Report(done.returncode, time.monotonic() - began, json.loads(done.stdout)["findings"])
    assert report.seconds < 60
    report.found(*(f"gpu-{number}: ssh" for number in range(4, 33, 4)))
    assert all("timed out" in found["seen"] for found in report.wrong.values())
    healthy = {finding["where"][0] for finding in report.findings if finding["status"] == "ok"}
    assert len(healthy & {f"gpu-{number}" for number in range(1, 33)}) == 24
