"""One fleet for the whole run: two GPU hosts and a gateway host, removed however the run ends."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import MODELS_LEFT_OUT, STACK, Site, first_config
from tests.e2e.lab import images
from tests.e2e.lab.fleet import Fleet, clean, running_fleet
from tests.e2e.lab.host import Host
from tests.e2e.lab.prerequisites import missing
from tests.e2e.lab.program import Program


def pytest_sessionstart(session: pytest.Session) -> None:
    lacking = missing()
    if lacking:
        pytest.exit(f"e2e needs what is missing here: {'; '.join(lacking)}", returncode=3)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The first test builds the images and the fleet, and each test may have to restore its first state.
        item.add_marker(pytest.mark.timeout(900))


def say(text: str) -> None:
    print(text, file=sys.__stderr__, flush=True)


@pytest.fixture(scope="session")
def docker_data() -> Path:
    """The base images, as a Docker data folder that hosts start from."""
    return images.prepare(say)


@pytest.fixture(scope="session")
def fleet(docker_data: Path) -> Iterator[Fleet]:
    """Running hosts: gpu-1 and gpu-2 with GPUs, gateway without. Tests may add more."""
    clean()
    with running_fleet() as fleet:
        for name, gpu in (("gpu-1", True), ("gpu-2", True), ("gateway", False)):
            fleet.add(name, gpu=gpu, docker_data=docker_data)
        images.install_nginx(fleet.hosts["gateway"])
        for host in fleet.hosts.values():
            host.power_on()
        for host in fleet.hosts.values():
            host.wait_ready()
        yield fleet


@pytest.fixture(scope="session")
def deployed(fleet: Fleet) -> Site:
    """The site after its first `up`. The tests share it and change it, in the order of their files."""
    program = Program(fleet.folder / "pulumi", STACK)
    for model in MODELS_LEFT_OUT:
        shutil.rmtree(program.project / "model_repository" / model)
    site = Site(fleet, program, first_config(fleet, program))
    site.first_up = site.up().check()
    return site


@pytest.fixture
def site(deployed: Site) -> Iterator[Site]:
    """The site in its first state before each test, and in the state that the test leaves after it."""
    deployed.settle()
    yield deployed
    for host in deployed.fleet.hosts.values():
        host.restore()


@pytest.fixture(scope="module")
def third(deployed: Site, docker_data: Path) -> Iterator[Host]:
    """An additional host. At the end no node is on it."""
    host = deployed.fleet.add("gpu-3", gpu=True, docker_data=docker_data)
    host.power_on()
    host.wait_ready()
    yield host
    deployed.settle()
    deployed.fleet.hosts.pop("gpu-3").remove()
