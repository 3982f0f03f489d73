"""The environment of the original deployment script becomes a stack file."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.stack import StackError, load_file
from infra.stack.__main__ import main
from infra.stack.script import import_script

pytestmark = pytest.mark.fast


def imported(tmp_path: Path, **environ: str):  # type: ignore[no-untyped-def]
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text(import_script(environ))
    return load_file(file)


def test_hosts_ports_user_and_folders_come_over(tmp_path: Path) -> None:
    stack = imported(
        tmp_path,
        GPU_AI_NODES="gpu1.example.com:22 192.0.2.7:51022",
        SSH_USER="deploy",
        REMOTE_DIR="/root/inference",
        MODEL_DIR="/data/models",
        AI_HTTP_PORT="8810",
        AI_GRPC_PORT="9810",
        TRITON_HTTP_PORT="8100",
        TRITON_GRPC_PORT="8101",
        TRITON_METRICS_PORT="8102",
        UNIT_MANAGER_PORT="8811",
    )
    assert [str(node.host) for node in stack.nodes] == [
        "ssh://deploy@gpu1.example.com:22",
        "ssh://deploy@192.0.2.7:51022",
    ]
    ports = stack.nodes[0].ports
    assert (ports.http, ports.grpc, ports.unit_manager) == (8810, 9810, 8811)
    assert (ports.triton_http, ports.triton_grpc, ports.triton_metrics) == (8100, 8101, 8102)
    assert (stack.models.source, stack.models.path) == ("host", "/data/models")
    assert stack.remote_dir == "/root/inference"


def test_node_files_may_have_comments_and_blank_lines(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.txt"
    nodes.write_text("# the fleet\n\ngpu1.example.com:22  # the old one\n   \nroot@gpu2.example.com:2222\n")
    stack = imported(tmp_path, GPU_AI_NODES_FILE=str(nodes))
    assert [node.public_host for node in stack.nodes] == ["gpu1.example.com", "gpu2.example.com"]


def test_node_files_may_come_from_windows_and_have_ipv6_addresses(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.txt"
    nodes.write_bytes("\ufeff# the fleet\r\n\r\nroot@[2001:db8::1]:2222\r\ngpu2.example.com:22".encode())
    stack = imported(tmp_path, GPU_AI_NODES_FILE=str(nodes))
    assert [str(node.host) for node in stack.nodes] == [
        "ssh://root@[2001:db8::1]:2222",
        "ssh://root@gpu2.example.com:22",
    ]


def test_a_host_that_is_listed_twice_is_reported_by_both_lines(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.txt"
    nodes.write_text("gpu1.example.com:22\ngpu2.example.com:22\nroot@GPU1.example.com:22\n")
    with pytest.raises(StackError) as caught:
        import_script({"GPU_AI_NODES_FILE": str(nodes)})
    assert [str(problem) for problem in caught.value.problems] == [
        f"{nodes}:3: root@GPU1.example.com:22 is listed twice, first in {nodes}:1"
    ]


def test_a_bad_address_in_a_file_is_reported_by_its_line(tmp_path: Path) -> None:
    nodes = tmp_path / "nodes.txt"
    nodes.write_text("# the fleet\ngpu1.example.com\n\ngpu2.example.com:99999\n")
    with pytest.raises(StackError) as caught:
        import_script({"GPU_AI_NODES_FILE": str(nodes), "AI_HTTP_PORT": "http"})
    assert [str(problem) for problem in caught.value.problems] == [
        f'{nodes}:2: expected host:port, got "gpu1.example.com"',
        f'{nodes}:4: expected host:port, got "gpu2.example.com:99999"',
        'AI_HTTP_PORT: expected a port from 1 to 65535, got "http"',
    ]


def test_upstreams_are_the_nodes_public_addresses_in_the_same_order(tmp_path: Path) -> None:
    upstreams = tmp_path / "upstreams.txt"
    upstreams.write_text("a.example.com:51312\nb.example.com:8800\n")
    stack = imported(
        tmp_path, GPU_AI_NODES="192.0.2.1:22 192.0.2.2:22", AI_INFERENCE_UPSTREAMS_FILE=str(upstreams)
    )
    assert [(node.public_host, node.public_http_port) for node in stack.nodes] == [
        ("a.example.com", 51312),
        ("b.example.com", 8800),
    ]


def test_lists_of_different_lengths_are_a_mistake() -> None:
    with pytest.raises(StackError, match="one for each of the 2 nodes"):
        import_script({"GPU_AI_NODES": "a:22 b:22", "AI_INFERENCE_UPSTREAMS": "a:8800"})


def test_public_ports_that_are_in_no_upstream_are_asked_for() -> None:
    text = import_script({"GPU_AI_NODES": "nat.example.com:2201 nat.example.com:2202"})
    assert [line.split(":")[0] for line in text.splitlines()[:5]] == [
        "# Add nodes[1].publicHttpPort",
        "# Add nodes[1].publicGrpcPort",
        "# Add nodes[1].publicHttpTlsPort",
        "# Add nodes[1].publicGrpcTlsPort",
        "config",
    ]


def test_public_grpc_ports_that_the_script_never_knew_are_asked_for() -> None:
    text = import_script(
        {
            "GPU_AI_NODES": "192.0.2.1:22 192.0.2.2:22",
            "AI_INFERENCE_UPSTREAMS": "nat.example.com:51312 nat.example.com:51314",
        }
    )
    assert text.startswith("# Add nodes[1].publicGrpcPort:")


def test_an_environment_without_nodes_is_a_mistake() -> None:
    with pytest.raises(StackError, match="GPU_AI_NODES"):
        import_script({})


def test_the_command_writes_a_file_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPU_AI_NODES", "gpu1.example.com:22")
    file = tmp_path / "Pulumi.prod.yaml"
    assert main(["import-script", str(file)]) == 0
    assert load_file(file).nodes[0].name == "gpu-1"
    assert main(["import-script", str(file)]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("prod.yaml", "expected Pulumi.<stack>.yaml"),
        ("nowhere/Pulumi.prod.yaml", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_the_stacks_is_refused(
    file: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("GPU_AI_NODES", "gpu1.example.com:22")
    assert main(["import-script", str(tmp_path / file)]) == 1
    assert message in capsys.readouterr().err
