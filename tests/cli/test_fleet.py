"""The command line `fleet`, run as a person runs it, in a project folder of its own."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from infra.cli.app import app
from infra.cli.deploy import parts, show
from infra.cli.pulumi_command import Done, changes, environment
from infra.cli.start import settings
from infra.cli.state import load_of
from infra.stack.load import parse
from tests.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = sorted(each.name or each.callback.__name__.replace("_", "-") for each in app.registered_commands)  # type: ignore[union-attr]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """An empty project of the user's, in which the package is used."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text("name: gpu-inference\nruntime: python\n")
    return folder


def fleet(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(project.parent),
        "PYTHONPATH": str(ROOT),
        "PULUMI_HOME": str(project.parent / "pulumi"),
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def write(project: Path, name: str, config: dict[str, object]) -> None:
    document = {"config": {f"gpu-inference:{key}": value for key, value in config.items()}}
    (project / f"Pulumi.{name}.yaml").write_text(yaml.safe_dump(document))


def test_pulumi_searches_rarely_for_garbage_unless_the_person_chooses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GOGC", raising=False)
    assert environment(None)["GOGC"] == "400"
    monkeypatch.setenv("GOGC", "50")
    assert environment(None)["GOGC"] == "50"


# The shape of the commands ------------------------------------------------------------------------------


def test_the_issue_names_every_command() -> None:
    assert {
        "init", "check", "up", "down", "status", "logs", "preview", "deploy", "rollback", "doctor", "models",
        "import-script", "bench",
    } <= set(COMMANDS)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(project: Path, command: str) -> None:
    shown = fleet(project, command, "--help")
    assert shown.returncode == 0, shown.stderr
    assert "usage" in shown.stdout.lower()


def test_the_version_is_that_of_the_package(project: Path) -> None:
    shown = fleet(project, "--version")
    assert shown.returncode == 0
    assert shown.stdout.startswith("fleet ")


def test_a_shell_completes_the_names_of_stacks(project: Path) -> None:
    write(project, "prod", {"nodes": ["ssh://root@192.0.2.10"]})
    shown = fleet(project, _FLEET_COMPLETE="complete_bash", COMP_WORDS="fleet check --stack ", COMP_CWORD="3")
    assert shown.stdout.split() == ["prod"]


# Mistakes -----------------------------------------------------------------------------------------------


def test_a_missing_stack_file_names_the_others_and_the_command_that_makes_one(project: Path) -> None:
    write(project, "prod", {"nodes": ["ssh://root@192.0.2.10"]})
    for command in ("check", "status", "preview", "deploy", "up", "rollback"):
        failed = fleet(project, command, "-s", "prodd")
        assert failed.returncode == 1
        assert "Pulumi.prodd.yaml is not in" in failed.stderr
        assert "Stacks here: prod. Did you mean prod?" in failed.stderr
        assert failed.stderr.endswith("To make it: fleet init prodd\n")
    doctor = fleet(project, "doctor", "-s", "prodd")
    assert (doctor.returncode, doctor.stderr.splitlines()[-1]) == (2, "To make it: fleet init prodd")
    assert "Pulumi.other.yaml is not in" in fleet(project, "doctor", FLEET_STACK="other").stderr


def test_a_wrong_argument_is_named_with_the_likely_one(project: Path) -> None:
    failed = fleet(project, "statos")
    assert failed.returncode == 2
    assert "Did you mean 'status'?" in failed.stderr


def test_a_stack_for_other_hosts_names_the_command_for_them(project: Path) -> None:
    write(project, "prod", {"nodes": ["ssh://root@192.0.2.10"]})
    up, down = fleet(project, "up", "-s", "prod"), fleet(project, "down", "-s", "prod")
    assert (up.returncode, down.returncode) == (1, 1)
    assert up.stderr.endswith("To deploy it: fleet deploy -s prod\n")
    assert down.stderr.endswith("To remove it: fleet destroy -s prod\n")


def test_without_the_pulumi_cli_the_error_says_where_to_get_it(project: Path) -> None:
    write(project, "prod", {"nodes": ["ssh://root@192.0.2.10"]})
    failed = fleet(project, "preview", "-s", "prod", PATH=str(project))
    assert failed.returncode == 1
    assert failed.stderr.endswith("To install it: https://www.pulumi.com/docs/install/\n")


def test_no_kubeconfig_stays_where_the_provider_for_clusters_wrote_it(project: Path) -> None:
    models = {"source": "claim://models"}
    config = {"target": "kubernetes", "nodes": [{"name": "l4"}], "models": models}
    service = {"service": {"image": "registry.example.com/service:1"}}
    write(project, "prod", {**config, **service, "gateway": {"publicHost": "ai.example.com"}})
    # It stands for the Pulumi CLI, whose provider for Kubernetes writes the kubeconfig to a temporary file.
    double = project / "pulumi"
    double.write_text('#!/bin/sh\n[ "$1" != preview ] || mktemp -t kubeconfigXXXXXX >>"$HOME/written"\n')
    double.chmod(0o755)
    done = fleet(project, "preview", "-s", "prod", PATH=f"{project}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    [written] = (project.parent / "written").read_text().split()
    assert not Path(written).exists()


def test_a_deployment_that_nobody_can_confirm_changes_nothing(project: Path) -> None:
    write(project, "prod", {"nodes": ["ssh://root@192.0.2.10"]})
    for command in ("deploy", "destroy"):
        failed = fleet(project, command, "-s", "prod")
        assert failed.returncode == 1
        assert failed.stderr.endswith(f"To go on without: fleet {command} -s prod --yes\n")


# A new stack file ---------------------------------------------------------------------------------------


def test_init_writes_a_private_file_that_passes_the_check(project: Path) -> None:
    made = fleet(project, "init", "prod", "--host", "ssh://root@192.0.2.10", "--host", "ssh://root@192.0.2.11",
                 "--models", "/models", "--open")  # fmt: skip
    assert made.returncode == 0, made.stderr
    file = project / "Pulumi.prod.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert fleet(project, "check", "-s", "prod").stdout == f"{file}: 2 nodes, no mistakes\n"


def test_init_writes_a_file_for_a_cluster(project: Path) -> None:
    made = fleet(project, "init", "cluster", "--namespace", "speech", "--context", "gpu", "--pods", "3",
                 "--registry", "registry.example.com/gpu", "--open")  # fmt: skip
    assert made.returncode == 0, made.stderr
    written = yaml.safe_load((project / "Pulumi.cluster.yaml").read_text())["config"]
    assert written["gpu-inference:kubernetes"] == {"context": "gpu", "namespace": "speech"}
    assert written["gpu-inference:nodes"] == [{"name": "speech", "replicas": 3}]
    assert fleet(project, "check", "-s", "cluster").returncode == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--namespace", "speech"], "no registry is given"),
        (
            ["--namespace", "speech", "--host", "ssh://root@192.0.2.10"],
            "--namespace is for one in a cluster",
        ),
    ],
)
def test_init_for_a_cluster_says_what_is_wrong(project: Path, given: list[str], said: str) -> None:
    failed = fleet(project, "init", "cluster", "--open", *given)
    assert failed.returncode != 0
    assert said in failed.stderr
    assert not (project / "Pulumi.cluster.yaml").exists()


def test_init_keeps_a_file_that_is_there(project: Path) -> None:
    write(project, "prod", {"nodes": ["ssh://root@192.0.2.10"]})
    before = (project / "Pulumi.prod.yaml").read_bytes()
    failed = fleet(project, "init", "prod", "--host", "ssh://root@192.0.2.11", "--open")
    assert failed.returncode == 1
    assert (project / "Pulumi.prod.yaml").read_bytes() == before


def test_init_leaves_no_file_after_a_mistake(project: Path) -> None:
    failed = fleet(project, "init", "prod", "--host", "ssh://root@192.0.2.10:abc", "--open")
    assert failed.returncode == 1
    assert "nodes[0]" in failed.stderr
    assert not (project / "Pulumi.prod.yaml").exists()


@pytest.mark.parametrize("models", ["bundled", "/models", "s3://bucket/models"])
@pytest.mark.parametrize("gpus", ["all", "none"])
def test_every_choice_of_init_is_a_valid_stack(models: str, gpus: str) -> None:
    config = settings(["ssh://root@192.0.2.10"], "ssh://root@192.0.2.1", models, gpus)
    assert len(parse(config).nodes) == 1


# What is running ----------------------------------------------------------------------------------------

#: What a node listens on beside HTTP. Two nodes of one computer must differ in all of them.
OTHER_PORTS = ("grpc", "tritonHttp", "tritonGrpc", "tritonMetrics", "unitManager")

METRICS = """\
# TYPE ai_inferences_running gauge
ai_inferences_running 2.0
# TYPE ai_inferences_queued gauge
ai_inferences_queued 1.0
# TYPE ai_streams_open gauge
ai_streams_open 3.0
# TYPE ai_requests_total counter
ai_requests_total{entrance="http",route="asr",status="200"} 40.0
ai_requests_total{entrance="grpc",route="asr",status="OK"} 2.0
# TYPE ai_requests_created gauge
ai_requests_created{entrance="http",route="asr",status="200"} 1.7e9
"""


@contextmanager
def answering(pages: dict[str, tuple[int, str]]) -> Iterator[int]:
    """A double of a node or a gateway: fixed pages on a port, which it yields."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, text = pages.get(self.path, (404, ""))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_status_shows_health_load_address_and_role(project: Path) -> None:
    well = {"/api/v1/ai/health": (200, "{}"), "/metrics": (200, METRICS)}
    ill = {
        "/api/v1/ai/health": (503, '{"message": "the model asr is not ready"}'),
        "/metrics": (200, METRICS),
    }
    with answering(well) as first, answering(ill) as second, answering({"/health": (200, "{}")}) as entrance:
        nodes = [
            {
                "host": "embedded",
                "name": "one",
                "ports": {"http": first, **dict(zip(OTHER_PORTS, free_ports(5), strict=True))},
            },
            {
                "host": "embedded",
                "name": "two",
                "ports": {"http": second, **dict(zip(OTHER_PORTS, free_ports(5), strict=True))},
            },
        ]
        write(project, "here", {"nodes": nodes, "gateway": {"http": entrance}})
        shown, as_json = (
            fleet(project, "status", "-s", "here"),
            fleet(project, "status", "-s", "here", "--json"),
        )
    assert (shown.returncode, as_json.returncode) == (1, 1)
    one, two, gateway = json.loads(as_json.stdout)
    assert one == {
        "name": "one", "host": "embedded", "role": "triton", "state": "healthy",
        "address": f"http://127.0.0.1:{first}", "running": 2, "queued": 1, "streams": 3, "requests": 42,
    }  # fmt: skip
    assert two["state"] == "unhealthy: the model asr is not ready"
    assert gateway["state"] == "healthy"
    assert "unhealthy: the model asr is not ready" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert shown.stderr.endswith("fleet doctor -s here\n")


def test_a_stack_that_does_not_run_names_the_command_that_starts_it(project: Path) -> None:
    free, other = free_ports(2)
    write(
        project,
        "here",
        {"nodes": [{"host": "embedded", "ports": {"http": free}}], "gateway": {"http": other}},
    )
    shown = fleet(project, "status", "-s", "here")
    assert shown.returncode == 1
    assert shown.stderr.endswith("To start it: fleet up -s here\n")


def test_the_load_of_a_node_is_the_sum_over_its_entrances() -> None:
    assert load_of(METRICS) == {"running": 2, "queued": 1, "streams": 3, "requests": 42}


def test_logs_of_an_unknown_part_name_the_known_ones(project: Path) -> None:
    write(project, "prod", {"nodes": [{"host": "ssh://root@192.0.2.10", "name": "gpu-1"}]})
    failed = fleet(project, "logs", "gpu-2", "-s", "prod")
    assert failed.returncode == 1
    assert "expected one of gpu-1, gateway" in failed.stderr


# The summary of a deployment ----------------------------------------------------------------------------


def event(operation: str, kind: str, name: str) -> str:
    urn = f"urn:pulumi:prod::gpu-inference::gpu-inference:index:Fleet${kind}::{name}"
    return json.dumps({"resourcePreEvent": {"metadata": {"op": operation, "urn": urn}}})


def test_a_summary_sorts_changes_by_node() -> None:
    log = [
        event("same", "docker:index/container:Container", "gpu-1-triton@192.0.2.10"),
        event("replace", "docker:index/container:Container", "gpu-1-service@192.0.2.10"),
        event("create-replacement", "docker:index/container:Container", "gpu-1-service@192.0.2.10"),
        event("create", "docker:index/container:Container", "gpu-10-service@192.0.2.11"),
        event("update", "command:local:Command", "gateway-config@192.0.2.1"),
        event("create", "gpu-inference:index:Node", "gpu-10"),
    ]
    nodes = [{"host": f"ssh://root@192.0.2.{n}", "name": f"gpu-{n}"} for n in (1, 10)]
    assert parts(parse({"nodes": nodes}), changes(log)) == {
        "gpu-1": ["replace: service"],
        "gpu-10": ["create: service"],
        "gateway": ["update: config"],
    }


@pytest.mark.parametrize(("status", "state"), [(0, "serves"), (255, "not known")])
def test_a_failed_deployment_claims_of_no_node_that_it_serves(
    capsys: pytest.CaptureFixture[str], status: int, state: str
) -> None:
    nodes = [{"host": "ssh://root@192.0.2.10", "name": "gpu-1"}]
    told = {"nodes": {"gpu-1": {"http": "http://192.0.2.10:8800"}}}
    show(parse({"nodes": nodes}, name="prod"), Done(status, 12.0, {}), told)
    shown = capsys.readouterr().out
    assert shown.split("gpu-1")[1].split("http://")[0].split(maxsplit=1)[1].strip() == state
    assert "fleet status -s prod" in shown
