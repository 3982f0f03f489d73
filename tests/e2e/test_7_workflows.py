"""The scripts of the GitHub workflows in examples/, run as a runner does on a deployed fleet.

The steps of other people's actions are left out, and so are those that set the runner up: the laboratory has
the environment, the Pulumi CLI and the login.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.e2e.deployment import Site
from tests.e2e.test_3_drift import NGINX
from tests.e2e.test_8_doctor import await_health, give_gpus

pytestmark = pytest.mark.long

_SET_UP = ("make .venv/.installed",)
_LOGIN = "login of the hosts"


@dataclass(frozen=True)
class Job:
    """What a job printed, and what it wrote to GitHub's summary."""

    succeeded: bool
    output: str
    summary: str


def run(site: Site, workflow: str) -> Job:
    """Runs the scripts of a workflow's only job; after one that fails, only those that always run."""
    site.program.configure(site.config)
    project = site.program.project
    content = yaml.safe_load((project / "examples" / "github-actions" / f"{workflow}.yaml").read_text())
    [job] = content["jobs"].values()
    summary = site.program.folder / "summary.md"
    summary.write_text("")
    succeeded, output = True, ""
    for step in job["steps"]:
        script = step.get("run", "")
        if not script or script in _SET_UP or step.get("name") == _LOGIN:
            continue
        if not succeeded and step.get("if") != "always()":
            continue
        done = subprocess.run(
            ["bash", "-e", "-c", script.replace("--stack prod", f"--stack {site.program.stack}")],
            cwd=project,
            env={**site.program.environment, "GITHUB_STEP_SUMMARY": str(summary), "CI": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        output += f"$ {script}\n{done.stdout}"
        succeeded = succeeded and done.returncode == 0
    return Job(succeeded, output, summary.read_text())


@contextmanager
def away(file: Path) -> Iterator[None]:
    """A file that is not there meanwhile."""
    moved = file.rename(file.with_suffix(".away"))
    try:
        yield
    finally:
        moved.rename(file)


def test_the_workflows_preview_deploy_and_find_what_somebody_changed(site: Site) -> None:
    give_gpus(site)
    await_health(site)
    site.config["gateway"]["rateLimit"] = {"requestsPerSecond": 500, "burst": 500}
    before = site.containers()
    with away(site.fleet.operator.key):
        previewed = run(site, "preview")
    assert previewed.succeeded, previewed.output
    assert previewed.summary.startswith("```\n") and previewed.summary.endswith("```\n")
    assert "gateway-config" in previewed.summary
    assert site.containers() == before

    deployed = run(site, "up")
    assert deployed.succeeded, deployed.output
    assert "limit_req" in site.gateway.run("cat", NGINX).stdout
    assert "gpu-2" in deployed.output.rpartition("fleet status")[2], deployed.output

    same = run(site, "drift")
    assert same.succeeded, same.output

    site.gateway.run("sh", "-c", f"sed -i 's/least_conn;/random;/' {NGINX}")
    changed = run(site, "drift")
    assert not changed.succeeded
    assert "nginx.conf is not as it was written" in changed.output
    assert "fleet doctor" not in changed.output, "it goes on after a step that failed"
