"""The command's exit status and JSON for given findings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.doctor import cli
from infra.doctor.findings import Finding, Status


@pytest.fixture
def stack_file(tmp_path: Path) -> Path:
    file = tmp_path / "Pulumi.prod.yaml"
    file.write_text("config: {'gpu-inference:nodes': [ssh://root@192.0.2.1]}\n")
    return file


def find(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    """Makes the checks return this."""

    async def found(*_: Any) -> list[Finding]:
        return list(findings)

    monkeypatch.setattr(cli, "findings_of", found)


def finding(status: Status) -> Finding:
    return Finding(("gpu-1",), "disk", "df", status, "4 GiB free", "tidy up", 0.25)


@pytest.mark.parametrize(
    ("status", "exit_status"),
    [(Status.OK, 0), (Status.WARNING, 1), (Status.PROBLEM, 1), (Status.SKIPPED, 1)],
)
def test_only_a_fleet_that_is_all_well_ends_with_0(
    status: Status, exit_status: int, stack_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find(monkeypatch, finding(Status.OK), finding(status))
    assert cli.main(["--file", str(stack_file)]) == exit_status


def test_programs_get_the_findings_alone_on_standard_output(
    stack_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find(monkeypatch, finding(Status.WARNING))
    cli.main(["--file", str(stack_file), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert report["stack"] == "prod"
    assert report["counts"] == {"ok": 0, "warning": 1, "problem": 0, "skipped": 0}
    assert report["findings"] == [
        {
            "where": ["gpu-1"],
            "check": "disk",
            "checked": "df",
            "status": "warning",
            "seen": "4 GiB free",
            "remedy": "tidy up",
            "seconds": 0.25,
        }
    ]


def test_what_the_system_refuses_is_an_error_in_its_own_message(
    stack_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: Any) -> None:
        raise OSError(28, "No space left on device", "/tmp/doctor-1")

    monkeypatch.setattr(cli.tempfile, "TemporaryDirectory", full)
    assert cli.main(["--file", str(stack_file)]) == 2
    assert capsys.readouterr().err == "error: /tmp/doctor-1: No space left on device\n"
