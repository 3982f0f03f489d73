"""The command line `fleet` on real hosts: it deploys, shows and takes back a change."""

from __future__ import annotations

import json
import subprocess

from tests.e2e.deployment import STACK, Site


def fleet(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    site.program.configure(site.config)
    return site.program.module("infra.cli", *arguments, timeout=600)


def test_a_change_is_deployed_seen_and_taken_back(site: Site) -> None:
    before = json.loads(json.dumps(site.config))
    site.config["nodes"][1]["drained"] = True
    site.ask()

    deployed = fleet(site, "deploy", "-s", STACK, "--yes")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    summary = deployed.stdout[deployed.stdout.index("part ") :]
    rows = {line.split()[0]: line for line in summary.splitlines() if line.strip()}
    assert "drained" in rows["gpu-2"]
    assert "nothing" in rows["gpu-1"]
    assert "config" in rows["gateway"]
    assert f"status  fleet status -s {STACK}" in summary

    shown = fleet(site, "status", "-s", STACK, "--json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    first, second, gateway = json.loads(shown.stdout)
    assert [first["state"], second["state"], gateway["state"]] == ["healthy", "drained", "healthy"]
    assert first["requests"] > 0

    log = fleet(site, "logs", "gpu-1", "-s", STACK, "-n", "5")
    assert log.returncode == 0
    assert len(log.stdout.splitlines()) == 5

    back = fleet(site, "rollback", "-s", STACK, "--yes")
    assert back.returncode == 0, back.stdout + back.stderr
    restored = site.program.stack_config()
    assert restored == before
    site.config = before
    assert [each["state"] for each in json.loads(fleet(site, "status", "-s", STACK, "--json").stdout)] == [
        "healthy"
    ] * 3
    assert site.up().check().steps == {}
