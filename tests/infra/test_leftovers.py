"""What a killed update left on a host is removed when it is created again; nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.connection import Connection
from infra.program import leftovers
from tests.infra.conftest import Double
from tests.infra.declared import declare

pytestmark = pytest.mark.fast

HERE = Connection("unix:///run/docker.sock")


@pytest.fixture
def removed(double: Double, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The calls of a Docker that has the container `web` of the stack `prod` with the id `left`."""
    monkeypatch.setattr(leftovers, "recorded", lambda stack: {"known"})
    return docker(double, "left prod")


def docker(double: Double, inspected: str) -> Path:
    return double("docker", f'case "$2" in inspect) echo "{inspected}" ;; esac')


def test_a_container_that_the_state_does_not_have_is_removed(removed: Path) -> None:
    assert leftovers.remove(HERE, "container", "web", "prod")
    assert removed.read_text().splitlines()[-1] == "container rm --force --volumes left"


@pytest.mark.parametrize("inspected", ["known prod", "left other", "left <no value>"])
def test_what_the_state_has_or_another_made_stays(removed: Path, double: Double, inspected: str) -> None:
    calls = docker(double, inspected)
    assert not leftovers.remove(HERE, "container", "web", "prod")
    assert " rm " not in calls.read_text()


def test_nothing_is_asked_of_the_state_where_there_is_nothing(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "recorded", lambda stack: pytest.fail("the state was read"))
    double("docker", "echo 'No such container: web' >&2; exit 1")
    assert not leftovers.remove(HERE, "container", "web", "prod")


def test_a_network_is_removed_unless_containers_use_it(removed: Path, double: Double) -> None:
    calls = docker(double, "left 0")
    assert leftovers.remove(HERE, "network", "web", "prod")
    assert calls.read_text().splitlines()[-1] == "network rm left"
    double("docker", 'case "$2" in inspect) echo "left 0" ;; *) echo "active endpoints" >&2; exit 1 ;; esac')
    with pytest.raises(RuntimeError, match=r"network web: .*active endpoints"):
        leftovers.remove(HERE, "network", "web", "prod")


def test_a_host_that_cannot_be_asked_is_an_error(double: Double) -> None:
    double("ssh", "echo 'Connection refused' >&2; exit 255")
    with pytest.raises(RuntimeError, match=r"container web: .*Connection refused"):
        leftovers.remove(Connection("ssh://root@192.0.2.1"), "container", "web", "prod")


def test_all_containers_and_networks_are_cleared_before_they_are_created_and_nothing_else() -> None:
    fleet = declare({"nodes": ["ssh://root@192.0.2.11"]})
    cleared = {
        resource.name
        for resource in fleet.resources.values()
        if any(hook.startswith("clear@") for hook in resource.hooks)
    }
    assert cleared == {each.name for each in [*fleet.of(":Container"), *fleet.of(":Network")]}
