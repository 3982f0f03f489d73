"""How findings are shown to people."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from infra.doctor import display
from infra.doctor.findings import Finding, Status

pytestmark = pytest.mark.fast


def finding(
    check: str, status: Status, seen: str = "it is so", remedy: str = "", where: str = "gpu-1"
) -> Finding:
    return Finding((where,), check, f"how {check} is", status, seen, remedy, 0.1)


def printed(findings: list[Finding], width: int = 120, *, verbose: bool = False) -> str:
    out = io.StringIO()
    display.show(Console(file=out, width=width), findings, 1.0, verbose=verbose)
    return out.getvalue()


def test_passed_checks_are_shown_only_on_request() -> None:
    findings = [finding("docker", Status.OK), finding("disk", Status.WARNING, "4 GiB free", "tidy up")]
    assert "docker" not in printed(findings)
    assert "docker" in printed(findings, verbose=True)
    assert "→ tidy up" in printed(findings)


@pytest.mark.parametrize("width", [40, 60, 89, 90, 200])
def test_on_every_terminal_the_remedy_keeps_its_words(width: int) -> None:
    remedy = "start it on the host: systemctl start docker"
    text = printed([finding("gpu in a container", Status.PROBLEM, "x" * 300, remedy)], width)
    assert max(map(len, text.splitlines())) <= width
    assert remedy in " ".join(text.replace("→", "").split())


def test_checks_skipped_for_one_reason_are_one_row() -> None:
    findings = [finding(name, Status.SKIPPED, "because of: ssh") for name in ("docker", "disk", "ports")]
    assert "because of: ssh (docker, disk, ports)" in printed(findings)


def test_each_node_has_its_sum_and_the_run_its_own() -> None:
    findings = [finding("ssh", Status.PROBLEM), finding("ssh", Status.OK, where="gpu-2")]
    assert printed(findings).splitlines()[-3:] == [
        "gpu-1: 1 problem",
        "gpu-2: 1 ok",
        "2 checks in 1.0 s: 1 ok, 1 problem",
    ]
