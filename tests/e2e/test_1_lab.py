"""The laboratory itself: its hosts are as separate as machines are. Otherwise the other tests would prove
little."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.lab.fleet import Fleet
from tests.e2e.lab.host import Host, wait_until
from tests.e2e.lab.images import NGINX_IMAGE, PROJECT, SERVICE_BASE, TRITON_BASE


def ssh(fleet: Fleet, host: Host, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ssh", "-F", str(fleet.operator.config), f"root@{host.address}", command],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_hosts_answer_over_ssh_with_their_own_docker(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        seen = ssh(fleet, host, "hostname; docker info --format '{{.Driver}} {{.ServerVersion}}'")
        assert seen.stdout.split()[:2] == [host.name, "overlay2"], seen


def test_base_images_run_what_they_stand_for(fleet: Fleet) -> None:
    host = fleet.hosts["gpu-1"]
    for image, command, words in (
        (SERVICE_BASE, "python --version", "Python 3.11"),
        (TRITON_BASE, "tritonserver --help", "model-repository"),
        (NGINX_IMAGE, "nginx -t", "test is successful"),
    ):
        run = host.docker("run", "--rm", image, *command.split(), check=False)
        assert words in run.stdout + run.stderr


def test_files_of_one_host_are_on_no_other_and_not_on_this_machine(fleet: Fleet) -> None:
    first, second = fleet.hosts["gpu-1"], fleet.hosts["gpu-2"]
    for folder in ("/models", "/etc", "/var/lib", "/tmp", "/run", "/opt", "/usr/local", "/root", "/dev/shm"):
        path = Path(folder) / f"only-{fleet.mark}"
        first.run("touch", str(path))
        assert second.run("test", "-e", str(path), check=False).returncode == 1
        assert not path.exists()
        first.run("rm", str(path))


def test_the_checkout_is_not_on_the_hosts(fleet: Fleet) -> None:
    assert fleet.hosts["gpu-1"].run("test", "-e", str(PROJECT), check=False).returncode == 1


def test_only_gpu_hosts_take_gpu_requests(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        run = host.docker("run", "--rm", "--gpus", "all", "base", "true", check=False)
        if host.gpu:
            assert run.returncode == 0, run.stderr
        else:
            assert 'could not select device driver "" with capabilities: [[gpu]]' in run.stderr


def test_an_unknown_host_key_is_refused(fleet: Fleet) -> None:
    host = fleet.hosts["gpu-2"]
    known = fleet.operator.known_hosts.read_text()
    fleet.operator.distrust(host.address)
    try:
        assert "Host key verification failed" in ssh(fleet, host, "true").stderr
    finally:
        fleet.operator.known_hosts.write_text(known)


def test_a_cut_host_is_gone_and_comes_back(fleet: Fleet) -> None:
    host = fleet.hosts["gpu-2"]
    host.cut()
    try:
        assert ssh(fleet, host, "true").returncode == 255
        assert host.docker("info", check=False).returncode == 0, "it runs on, unreachable"
    finally:
        host.restore()
    wait_until("the host answers again", lambda: ssh(fleet, host, "true").returncode == 0, 10)


def test_a_power_cut_keeps_containers_that_restart(fleet: Fleet) -> None:
    host = fleet.hosts["gpu-2"]
    host.docker("run", "--detach", "--name", "stays", "--restart", "unless-stopped", "base", "sleep", "1000")
    before = host.containers()
    host.power_off()
    host.power_on()
    host.wait_ready()
    wait_until("the container runs again", lambda: host.containers() == before, 10)
    host.docker("rm", "--force", "stays")


@pytest.mark.parametrize("name", ["gpu-1", "gpu-2", "gateway"])
def test_hosts_have_no_way_out(fleet: Fleet, name: str) -> None:
    seen = fleet.hosts[name].run("curl", "--silent", "--max-time", "2", "http://192.0.2.1", check=False)
    assert seen.returncode in (7, 28), "curl could not connect, or waited in vain"
