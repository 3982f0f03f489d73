"""What somebody changed in a configuration of monitoring is found, and the same step writes it again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import names
from infra.connection import Connection
from infra.monitoring.parts import parts
from infra.stack import Stack
from infra.steps import monitoring as step
from infra.update.written import Written, read
from tests.infra.conftest import Double
from tests.infra.declared import declare

pytestmark = pytest.mark.fast

HOST = "unix:///nowhere.sock"
PARTS = ["prometheus", "alertmanager", "grafana"]
#: Docker as the step and the question use it.
RUNNING = 'case "$1" in inspect) echo true;; esac'


class Deployed:
    """A stack whose host of monitoring is this computer, after its first update."""

    def __init__(self, folder: Path, docker: Path) -> None:
        self._folder, self._docker = folder, docker
        self.stack = self.changed()
        for part in PARTS:
            self.write(part)
        docker.write_text("")

    def changed(self, **more: Any) -> Stack:
        """The stack with other values of some keys."""
        config = {
            "nodes": [{"name": "gpu-1", "host": HOST}],
            "gateway": {"host": HOST},
            "monitoring": {"exporters": {"hosts": False, "gpus": False}},
            "remoteDir": str(self._folder),
            **more,
        }
        return Stack.model_validate(config)

    def folder(self, part: str) -> Path:
        return Path(names.monitoring_folder(self.stack, part))

    def file(self, part: str, name: str) -> Path:
        return self.folder(part) / "configurations" / "current" / name

    def write(self, part: str) -> None:
        """Runs the step."""
        [known] = [each for each in parts(self.stack) if each.name == part]
        step.apply(
            step.Files(
                connection=Connection.to(self.stack.monitoring_host, self.stack.ssh),
                folder=str(self.folder(part)),
                container=names.monitoring_container(self.stack, part),
                image=known.image,
                files=known.files,
                check=known.check,
                restart=known.reload == "restart",
            )
        )

    def told(self) -> list[str]:
        """What the step had Docker do with containers."""
        return [line for line in self._docker.read_text().splitlines() if line[:4] in ("kill", "rest")]

    def lines(self, stack: Stack | None = None) -> list[str]:
        found = read(stack or self.stack, 10)
        assert not found.unread
        return [line for line in found.lines() if line.split(":")[0] in PARTS]


@pytest.fixture
def deployed(tmp_path: Path, double: Double) -> Deployed:
    return Deployed(tmp_path / "host", double("docker", RUNNING))


def test_what_nobody_changed_has_no_difference(deployed: Deployed) -> None:
    assert deployed.lines() == []


def changed(file: Path) -> None:
    file.write_text(file.read_text() + "# mine\n")


@pytest.mark.parametrize("how", [changed, Path.unlink], ids=["changed", "removed"])
@pytest.mark.parametrize(
    ("part", "name", "reads"),
    [
        ("prometheus", "alerts.yml", "kill --signal HUP"),
        ("alertmanager", "alertmanager.yml", "kill --signal HUP"),
        ("grafana", "dashboards/fleet.json", "restart"),
        ("grafana", "provisioning/datasources/fleet.yml", "restart"),
    ],
)
def test_a_file_that_somebody_changed_is_named_and_written_again(
    deployed: Deployed, part: str, name: str, reads: str, how: Callable[[Path], None]
) -> None:
    text = deployed.file(part, name).read_text()
    how(deployed.file(part, name))
    assert deployed.lines() == [f"{part}: {name} is not as it was written"]
    deployed.write(part)
    assert deployed.file(part, name).read_text() == text
    assert deployed.told() == [f"{reads} {names.monitoring_container(deployed.stack, part)}"]
    assert deployed.lines() == []


def test_a_file_that_somebody_added_is_named_and_removed(deployed: Deployed) -> None:
    mine = deployed.file("grafana", "dashboards/my own.json")
    mine.write_text("{}")
    assert deployed.lines() == ["grafana: dashboards/my own.json is not as it was written"]
    deployed.write("grafana")
    assert not mine.exists()
    assert deployed.lines() == []


def test_a_link_that_leads_to_another_folder_is_put_back(deployed: Deployed) -> None:
    link = deployed.folder("prometheus") / "configurations" / "current"
    shutil.copytree(link.resolve(), link.parent / "mine")
    link.unlink()
    link.symlink_to("mine")
    assert deployed.lines() == ["prometheus: current leads to another configuration"]
    deployed.write("prometheus")
    assert deployed.lines() == []
    assert not (link.parent / "mine").exists()


@pytest.mark.parametrize("which", ["configurations", "data", ""])
def test_a_folder_that_somebody_removed_is_made_again_and_the_container_starts_with_it(
    deployed: Deployed, which: str
) -> None:
    """A running container keeps the removed folder, so a signal alone would have it read nothing."""
    owners = {name: (deployed.folder("prometheus") / name).stat().st_uid for name in ("", "data")}
    shutil.rmtree(deployed.folder("prometheus") / which)
    assert deployed.lines() == ["prometheus: its folder is gone"]
    deployed.write("prometheus")
    assert deployed.told() == ["restart stack-prometheus"]
    assert {name: (deployed.folder("prometheus") / name).stat().st_uid for name in owners} == owners
    assert deployed.lines() == []


def test_a_configuration_without_a_record_is_written_again(deployed: Deployed) -> None:
    (deployed.folder("prometheus") / ".applied").unlink()
    assert deployed.lines() == ["prometheus: there is no record of what was written"]
    deployed.write("prometheus")
    assert deployed.lines() == []


def test_a_stack_file_that_is_newer_than_the_host_is_no_difference(deployed: Deployed) -> None:
    newer = deployed.changed(monitoring={"alertmanager": {"webhook": "https://hooks.example.com/x"}})
    assert deployed.lines(newer) == []


def test_a_part_without_a_container_is_new_and_has_no_difference(deployed: Deployed, double: Double) -> None:
    double("docker", "exit 1")
    shutil.rmtree(deployed.folder("prometheus"))
    assert deployed.lines() == []


def test_the_record_is_for_its_owner_alone(deployed: Deployed) -> None:
    """It has digests of files with secrets."""
    assert (deployed.folder("alertmanager") / ".applied").stat().st_mode & 0o077 == 0


def test_a_difference_runs_the_step_of_its_part_and_no_other() -> None:
    config = {"nodes": ["ssh://root@192.168.7.11"], "monitoring": {}}
    whole = declare(config)
    assert whole["prometheus-config"].ignore_changes == ("environment",)
    reason = "alerts.yml is not as it was written"
    found = declare(config, written=Written(monitoring={"prometheus": (reason,)}))
    other = {name for name in whole.resources if whole[name].inputs != found[name].inputs}
    assert other == {"prometheus-config"}
    assert found["prometheus-config"].inputs["environment"]["DIFFERENCE"].startswith(f"{reason} (")
    assert found["prometheus-config"].ignore_changes == ()
