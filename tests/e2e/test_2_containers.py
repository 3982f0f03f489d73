"""Containers write only to what they were given, and their memory, processes and threads are limited."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.e2e.deployment import Site
from tests.e2e.lab.host import Host


def described(site: Site) -> Iterator[tuple[Host, dict[str, Any]]]:
    """Every container of the site, as `docker inspect` describes it."""
    for host in site.fleet.hosts.values():
        for container in json.loads(host.docker("inspect", *host.containers()).stdout):
            yield host, container


def part(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"]["gpu-inference.role"])


def test_no_container_can_write_to_its_root(deployed: Site) -> None:
    seen = set()
    for host, container in described(deployed):
        seen.add(part(container))
        for folder in ("/", "/etc", "/usr/lib", "/var/lib"):
            tried = host.docker(
                "exec", "--user", "0", container["Id"], "touch", f"{folder}/written", check=False
            )
            assert "Read-only file system" in tried.stderr, (container["Name"], folder, tried)
    assert seen == {"service", "triton", "gateway", "console"}


def test_processes_threads_and_memory_are_limited(deployed: Site) -> None:
    for _, container in described(deployed):
        limits = container["HostConfig"]
        if part(container) == "console":
            assert (limits["Memory"], limits["PidsLimit"]) == (100 << 20, 64)
        elif part(container) != "gateway":
            assert limits["PidsLimit"] == 8192, container["Name"]
            assert limits["Memory"] >= 16 << 30, container["Name"]


def test_limits_can_be_changed_and_turned_off(deployed: Site) -> None:
    deployed.config["service"] |= {"memory": False, "pidsLimit": False, "readOnly": False}
    deployed.config["triton"]["memory"] = "24g"
    deployed.up().check()
    for _, container in described(deployed):
        limits = container["HostConfig"]
        if part(container) == "service":
            assert (limits["Memory"], limits["PidsLimit"] or 0, limits["ReadonlyRootfs"]) == (0, 0, False)
        if part(container) == "triton":
            assert limits["Memory"] == 24 << 30
    assert "emotions" in deployed.ask()
    assert deployed.up().check().steps == {}
    deployed.settle()
