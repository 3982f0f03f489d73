"""The files of examples/ that people copy: workflows, a compose file and a template of a Pulumi project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import names
from infra.cli.app import app
from infra.paths import PACKAGE, pulumi_cli
from infra.program.containers import USER
from infra.program.runtimes import triton
from infra.service_settings import settings_text
from infra.stack import Stack, parse
from infra.triton_arguments import stop_seconds
from tests.infra.test_package import run

EXAMPLES = PACKAGE / "examples"
WORKFLOWS = sorted((EXAMPLES / "github-actions").glob("*.yaml"))
COMPOSE = EXAMPLES / "compose" / "compose.yaml"
TEMPLATE = EXAMPLES / "template"
COMMANDS = {each.name or each.callback.__name__.replace("_", "-") for each in app.registered_commands}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("schema", "files"), [("vendor.github-workflows", WORKFLOWS), ("vendor.compose-spec", [COMPOSE])]
)
def test_each_file_fits_the_schema_of_its_kind(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (len(files) > 0, done.returncode) == (True, 0), done.stdout


# Workflows ----------------------------------------------------------------------------------------------


def steps(workflow: Path) -> list[dict[str, Any]]:
    [job] = yaml.safe_load(workflow.read_text())["jobs"].values()
    return list(job["steps"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_commands_of_a_workflow_exist(workflow: Path) -> None:
    scripts = [step["run"] for step in steps(workflow) if "run" in step]
    fleet = {match for script in scripts for match in re.findall(r"bin/fleet (\S+)", script)}
    assert fleet
    assert fleet <= COMMANDS
    for script in scripts:
        assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
    made = {match for script in scripts for match in re.findall(r"make (\S+)", script)}
    for target in made:
        assert subprocess.run(["make", "-n", target], cwd=PACKAGE, capture_output=True).returncode == 0


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_says_which_secrets_it_needs(workflow: Path) -> None:
    text = workflow.read_text()
    needed = set(re.findall(r"secrets\.(\w+)", text))
    head = text.partition("\nname:")[0]
    if "those of up.yaml" in head:
        head += (EXAMPLES / "github-actions" / "up.yaml").read_text().partition("\nname:")[0]
    assert {name for name in needed if name not in head} == set()


def test_an_update_waits_for_the_one_before_it_and_is_never_cut_off() -> None:
    groups = {path.stem: yaml.safe_load(path.read_text())["concurrency"] for path in WORKFLOWS}
    assert groups["up"] == groups["drift"] == {"group": "fleet", "cancel-in-progress": False}


def test_a_preview_has_no_login_of_the_hosts() -> None:
    assert "SSH_KEY" not in (EXAMPLES / "github-actions" / "preview.yaml").read_text()


# Compose ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return content


@pytest.fixture(scope="module")
def stack() -> Stack:
    """The stack whose only node the compose file is."""
    settings = {"nodes": ["ssh://root@192.0.2.10"], "models": {"source": "sync"}, "triton": {"build": True}}
    return parse(settings, name="speech", source="the test")


def test_compose_runs_triton_as_a_fleet_does(compose: dict[str, Any], stack: Stack) -> None:
    service = compose["services"]["triton"]
    command = [word.replace("$$", "$") for word in service["command"]]
    assert command == triton.command(stack, stack.nodes[0])
    assert service["stop_grace_period"] == f"{stop_seconds(stack.service.shutdown_grace_seconds)}s"
    assert (service["mem_limit"], service["pids_limit"]) == (stack.triton.memory, stack.triton.pids_limit)
    assert f"../../model_repository:{names.MODELS_MOUNT}:ro" in service["volumes"]


def test_compose_runs_the_service_with_a_nodes_settings(compose: dict[str, Any], stack: Stack) -> None:
    service = compose["services"]["service"]
    given = json.loads(service["environment"][names.SETTINGS_VARIABLE])
    assert given == json.loads(settings_text(stack, stack.nodes[0]))
    assert (service["mem_limit"], service["pids_limit"]) == (stack.service.memory, stack.service.pids_limit)
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_gives_no_container_more_rights_than_a_fleet(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert (service["user"], service["read_only"], service["cap_drop"]) == (USER, True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["build"]["context"] == "../.."
        assert (PACKAGE / service["build"]["dockerfile"]).is_file()
        assert "shared-memory:/dev/shm" in service["volumes"]


# Template -----------------------------------------------------------------------------------------------


def test_the_template_declares_a_fleet_on_its_hosts() -> None:
    hosts = "ssh://root@192.0.2.10, ssh://root@192.0.2.11"
    program = (TEMPLATE / "__main__.py").read_text()
    fleet, outputs = run(program, hosts=hosts, apiKey="example-key-1")
    assert outputs == {"http": "http://192.0.2.10:8080", "grpc": "192.0.2.10:9080"}
    assert len([each for each in fleet.of(":Container") if each.inputs["name"].endswith("-service")]) == 2
    holders = {each.name for each in fleet.resources.values() if "example-key-1" in json.dumps(each.inputs)}
    assert holders == {"192-0-2-10-service", "192-0-2-11-service", "gateway-config", "gateway-console"}


def test_pulumi_new_makes_a_project_from_the_template(tmp_path: Path) -> None:
    cli = pulumi_cli()
    if cli is None:
        pytest.skip("the Pulumi CLI is neither on PATH nor in ~/.pulumi/bin")
    (tmp_path / "state").mkdir()
    project = tmp_path / "project"
    environment = {
        **os.environ,
        "PULUMI_BACKEND_URL": f"file://{tmp_path / 'state'}",
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }
    command = [str(cli), "new", str(TEMPLATE), "--yes", "--generate-only", "--dir", str(project)]
    subprocess.run([*command, "--name", "my-fleet"], env=environment, check=True, capture_output=True)
    made = yaml.safe_load((project / "Pulumi.yaml").read_text())
    assert (made["name"], made["runtime"]["name"]) == ("my-fleet", "python")
    assert "template" not in made
    assert (project / "__main__.py").read_text() == (TEMPLATE / "__main__.py").read_text()
