"""The console beside the gateway's container: the fleet on one page, through the gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2

from tests.e2e.deployment import API_KEY, Site

CONSOLE = "e2e-console"


def get(site: Site, path: str, key: str = API_KEY) -> httpx2.Response:
    with httpx2.Client(trust_env=False, timeout=10) as client:
        return client.get(f"{site.url}{path}", headers={"Authorization": f"Bearer {key}"} if key else {})


def fleet(site: Site) -> dict[str, Any]:
    """The fleet as the console tells it; nothing while it is away."""
    answer = get(site, "/console/api/fleet")
    return dict(answer.json()) if answer.status_code == 200 else {"nodes": [], "gateway": {}}


def wait(site: Site, what: Callable[[dict[str, Any]], bool], seconds: float) -> float:
    """Waits until the console tells so; returns the seconds that it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if what(told := fleet(site)):
            return time.monotonic() - begun
        time.sleep(0.1)
    raise AssertionError(json.dumps(told)[:3000])


def health(told: dict[str, Any]) -> dict[str, str]:
    return {node["name"]: node["health"] for node in told["nodes"]}


def test_a_killed_service_is_red_within_five_seconds_and_green_within_five_of_its_return(site: Site) -> None:
    host = site.fleet.hosts["gpu-1"]
    wait(site, lambda told: health(told).get("gpu-1") == "healthy", 20)
    host.docker("kill", "e2e-gpu-1-service")
    red = wait(site, lambda told: health(told)["gpu-1"] == "down", 20)
    assert health(fleet(site))["gpu-2"] == "healthy"
    host.docker("start", "e2e-gpu-1-service")
    begun = time.monotonic()
    while not site.healthy(host):
        assert time.monotonic() - begun < 60
        time.sleep(0.05)
    green = wait(site, lambda told: health(told)["gpu-1"] == "healthy", 20)
    print(f"red after {red:.1f} s, green after {green:.1f} s")
    assert red < 5
    assert green < 5


def test_nothing_but_its_pages_fails_while_the_console_is_away(site: Site) -> None:
    wait(site, lambda told: len(told["nodes"]) == 2, 20)
    gateway = site.gateway
    used = gateway.docker("stats", "--no-stream", "--format", "{{.MemUsage}} {{.CPUPerc}}", CONSOLE).stdout
    print(f"the console uses {used.strip()}")
    gateway.docker("kill", CONSOLE)
    for path in ("/", "/console"):
        answer = get(site, path)
        assert (answer.status_code, "The console does not answer" in answer.text) == (503, True)
    for _ in range(20):
        site.ask()
    gateway.docker("start", CONSOLE)
    wait(site, lambda told: set(health(told).values()) == {"healthy"}, 20)
    site.ask()
    wait(site, lambda told: bool(site.ask() and (told["gateway"]["figures"] or {}).get("requests")), 60)
