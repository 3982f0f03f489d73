"""An update checks every host first; an error names each failed host with the reason and the remedy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from infra.stack import Stack, parse
from infra.update import preflight, prepare
from tests.infra.conftest import Double
from tests.ports import free_ports


def stack(*hosts: str, **more: object) -> Stack:
    nodes = [{"name": f"gpu-{n}", "host": host} for n, host in enumerate(hosts, start=1)]
    return parse({"nodes": nodes, **more})


def failures_of(stack: Stack) -> list[preflight.Failure]:
    return preflight.probe_all(preflight.checks(stack), stack.ssh)


HOST_1, HOST_2 = "ssh://root@192.0.2.11", "ssh://deploy@192.0.2.12:2222"


def test_hosts_that_answer_are_no_failures(double: Double) -> None:
    calls = double("ssh", "exit 0")
    assert failures_of(stack(HOST_1, HOST_2)) == []
    asked = calls.read_text()
    assert asked.count("docker version") == 2
    assert "-p 2222 deploy@192.0.2.12" in asked
    assert asked.count("StrictHostKeyChecking=yes") == 2


def test_each_host_is_asked_once_whoever_uses_it() -> None:
    nodes = [
        {"host": HOST_1, "name": "a"},
        {"host": HOST_1, "name": "b", "ports": {"http": 8810, "grpc": 9810}},
    ]
    [check] = preflight.checks(parse({"nodes": nodes}))
    assert check.users == ("a", "b", "gateway")


def test_the_nvidia_runtime_is_asked_for_where_gpus_are_wanted(double: Double) -> None:
    calls = double("ssh", "exit 0")
    nodes = [{"host": HOST_1, "gpus": "none"}, {"host": HOST_2, "gpus": [0]}]
    failures_of(parse({"nodes": nodes}))
    with_nvidia = [call for call in calls.read_text().split("-T ") if "nvidia" in call]
    assert len(with_nvidia) == 1
    assert "192.0.2.12" in with_nvidia[0]


@pytest.mark.parametrize(
    ("script", "reason", "remedy", "reachable"),
    [
        (
            "echo 'ssh: connect to host: Connection timed out' >&2; exit 255",
            "timed out",
            "the host is up",
            False,
        ),
        (
            "echo 'ssh: connect to host: Connection refused' >&2; exit 255",
            "refused",
            "sshd is running",
            False,
        ),
        ("echo 'ssh: Could not resolve hostname x' >&2; exit 255", "cannot be resolved", "DNS", False),
        (
            "echo 'root@x: Permission denied (publickey).' >&2; exit 255",
            "key is not accepted",
            "authorized",
            False,
        ),
        ("echo 'Host key verification failed.' >&2; exit 255", "host key is not known", "known_hosts", False),
        (
            "echo '@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @' >&2; exit 255",
            "host key is not the known one",
            "reinstalled",
            False,
        ),
        ("echo 'sh: 1: docker: not found' >&2; exit 41", "not installed", "install Docker", False),
        ("echo 'permission denied while trying' >&2; exit 41", "refuses this user", "docker group", False),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 41", "does not answer", "systemctl", False),
        ("exit 42", "no NVIDIA runtime", "nvidia-container-toolkit", True),
    ],
)
def test_a_failing_host_is_named_with_reason_and_remedy(
    double: Double, script: str, reason: str, remedy: str, reachable: bool
) -> None:
    double("ssh", f'case "$*" in *192.0.2.12*) {script};; esac')
    [failure] = failures_of(stack(HOST_1, HOST_2))
    assert "gpu-2" in str(failure)
    assert HOST_2 in str(failure)
    assert reason in failure.reason
    assert remedy in failure.remedy
    assert failure.reachable is reachable


@pytest.mark.parametrize(
    ("containers", "holder"),
    [
        ("prod-gateway\t0.0.0.0:8080->8080/tcp, 0.0.0.0:9080->9080/tcp", None),
        ("web\t0.0.0.0:443->443/tcp, :::8070-8090->80/tcp", "the container web"),
        ("prod-gone-service\t192.0.2.11:8080->8800/tcp", "the container prod-gone-service"),
        ("web\t8080/tcp", None),
    ],
)
def test_a_port_that_is_taken_is_named_with_its_holder_before_anything_changes(
    double: Double, containers: str, holder: str | None
) -> None:
    double("ssh", f"printf '28.0.0\\n--\\n{containers}\\n--\\n'")
    failures = failures_of(parse({"nodes": [HOST_1]}, "prod"))
    if holder is None:
        assert failures == []
        return
    [failure] = failures
    assert f"gateway.http: port 8080 is taken by {holder}" in failure.reason
    assert "docker stop" in failure.remedy
    assert "set gateway.http to another port" in failure.remedy
    assert failure.reachable, "skipping the host would not help"


LISTENS = "   0: {}:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1"


@pytest.mark.parametrize(
    ("address", "bind", "free"),
    [
        ("00000000", None, False),
        ("0100007F", None, False),
        ("00000000000000000000000000000000", "192.0.2.11", False),
        ("0B0200C0", "192.0.2.11", False),
        ("0100007F", "192.0.2.11", True),
    ],
)
def test_a_process_that_listens_takes_a_port_where_both_want_one_address(
    double: Double, address: str, bind: str | None, free: bool
) -> None:
    process = 'LISTEN 0 511 *:8080 *:* users:(("httpd",pid=77,fd=6))'
    double("ssh", f"printf '28.0.0\\n--\\n--\\n%s\\n--\\n%s\\n' '{LISTENS.format(address)}' '{process}'")
    failures = failures_of(stack(HOST_1, gateway={"bind": bind} if bind else {}))
    assert [failure.reason for failure in failures] == (
        [] if free else ["gateway.http: port 8080 is taken by httpd (pid 77)"]
    )


def test_hosts_that_hang_are_all_given_up_together_within_ten_seconds(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert preflight.SECONDS < 10
    monkeypatch.setattr(preflight, "SECONDS", 1.0)
    double("ssh", "exec sleep 600")
    begin = time.monotonic()
    failures = failures_of(stack(*(f"ssh://root@192.0.2.{number}" for number in range(1, 9))))
    assert len(failures) == 8
    assert time.monotonic() - begin < 8 * 10, "one after the other"
    assert all("no answer within" in failure.reason for failure in failures)


def test_embedded_nodes_are_asked_nothing() -> None:
    assert preflight.checks(parse({"nodes": ["embedded"]})) == []


@pytest.mark.fast
@pytest.mark.parametrize(
    ("folders", "reason"),
    [
        (["models/asr/1"], None),
        (["models/lost+found", "models/asr/1"], None),
        ([], "{}/models (models.path) does not exist on the host"),
        (["models"], "{}/models (models.path) is empty on the host"),
        (["models/lost+found"], "{}/models (models.path) is empty on the host"),
    ],
)
def test_a_host_without_the_models_that_it_should_have_is_named_before_anything_changes(
    tmp_path: Path, double: Double, folders: list[str], reason: str | None
) -> None:
    double("docker", 'case "$1" in info) echo nvidia;; esac')
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    # The host is this computer, where another stack may have the default ports.
    http, grpc, *of_node = free_ports(4)
    node = {"name": "gpu-1", "host": "unix:///nowhere.sock", "gpus": "all"}
    stack = parse(
        {
            "nodes": [{**node, "ports": dict(zip(("http", "grpc"), of_node, strict=True))}],
            "gateway": {"http": http, "grpc": grpc},
            "models": {"source": "host", "path": str(tmp_path / "models")},
        },
        "prod",
    )
    if reason is None:
        assert failures_of(stack) == []
        return
    with pytest.raises(prepare.CannotUpdate) as refused:
        prepare.prepare(stack)
    assert str(refused.value).startswith("nothing was changed, because of:\n  gpu-1")
    assert reason.format(tmp_path) in str(refused.value)
    assert "put the models there" in str(refused.value)
    assert "models: {source: sync}" in str(refused.value)


@pytest.mark.fast
def test_the_folder_of_models_is_asked_for_where_nodes_read_it() -> None:
    nodes = [
        {"name": "a", "host": HOST_1},
        {
            "name": "b",
            "host": HOST_2,
            "runtime": "remote",
            "gpus": "none",
            "remote": {"endpoint": "http://192.0.2.20:8800"},
        },
    ]
    assert [check.models for check in preflight.checks(parse({"nodes": nodes}))] == ["/models", ""]
    synced = parse({"nodes": nodes, "models": {"source": "sync"}})
    assert [check.models for check in preflight.checks(synced)] == ["", ""]
