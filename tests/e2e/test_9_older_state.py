"""A stack that an older version deployed. Today's version destroys it, and updates it.

The older code comes from this repository's history and runs with today's environment. It deploys the images
and the models of today, so that only the program differs.
"""

from __future__ import annotations

import copy
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.paths import PROJECT
from tests.e2e.deployment import STACK, Site
from tests.e2e.lab.host import Host
from tests.e2e.lab.program import LEFT_OUT, Program

pytestmark = pytest.mark.long

#: The last commit before version 0.1.0 whose types and names of resources differ from today's.
OLDER = "03bca15"


@pytest.fixture(scope="module")
def older_code() -> bytes:
    """The archive of the older version."""
    archive = subprocess.run(["git", "archive", OLDER], cwd=PROJECT, capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"the history here has no commit {OLDER}")
    return archive.stdout


@pytest.fixture(scope="module")
def images(deployed: Site) -> dict[str, str]:
    """Today's images under fixed names, on hosts on which nothing is deployed."""
    deployed.settle()
    tagged = {}
    for part in ("service", "triton"):
        tagged[part] = f"e2e/{part}:today"
        for host in deployed.gpu_hosts():
            name = next(name for name in host.containers() if name.endswith(f"-{part}"))
            image = host.docker("inspect", "--format", "{{.Image}}", name).stdout.strip()
            host.docker("tag", image, tagged[part])
    deployed.program.destroy().check()
    return tagged


@pytest.fixture
def older(older_code: bytes, images: dict[str, str], deployed: Site, tmp_path: Path) -> Iterator[Site]:
    """A site that the older version deployed, with today's code in the place of the older one."""
    project = tmp_path / "project"
    with tarfile.open(fileobj=io.BytesIO(older_code)) as archive:
        archive.extractall(project, filter="data")
    replace_folder(deployed.program.project / "model_repository", project / "model_repository")
    (project / ".venv").symlink_to(deployed.program.project / ".venv")
    program = Program(tmp_path, STACK)
    config = copy.deepcopy(deployed.first)
    # Keys that the older version does not have.
    del config["models"]["allowRules"]
    del config["rollout"]["judge"]
    config["apiKeys"] = program.encrypt("e2e-key-0123456789")
    for part, image in images.items():
        config[part] = {"image": image}
    site = Site(deployed.fleet, program, config)
    site.up().check()
    stack_file = program.config_file.read_bytes()
    shutil.rmtree(project)
    shutil.copytree(PROJECT, project, ignore=LEFT_OUT, symlinks=True)
    replace_folder(deployed.program.project / "model_repository", project / "model_repository")
    (project / ".venv").symlink_to(deployed.program.project / ".venv")
    program.config_file.write_bytes(stack_file)
    yield site
    if site.containers():
        program.destroy().check()


def replace_folder(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def left(host: Host) -> list[str]:
    """What a stack leaves on a host, apart from images: containers, networks, volumes, files."""
    networks = host.docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}")
    volumes = host.docker("volume", "ls", "--format", "{{.Name}}")
    files = host.run("find", f"/opt/gpu-inference/{STACK}", check=False)
    return [
        *host.containers(everything=True),
        *networks.stdout.split(),
        *volumes.stdout.split(),
        *files.stdout.split(),
    ]


def test_a_stack_of_the_older_version_is_destroyed_without_leftovers(older: Site) -> None:
    assert older.containers()
    older.program.destroy().check()
    assert [thing for host in older.fleet.hosts.values() for thing in left(host)] == []


def test_a_stack_of_the_older_version_is_updated_in_place(older: Site) -> None:
    update = older.up().check()
    operations = {name: operation for name, operation in update.steps.items() if "gpu-inference:" not in name}
    kept = [
        name
        for name in operations
        if name.startswith(("docker:index/network", "docker:index/volume", "pulumi:providers"))
        and "-engines@" not in name
    ]
    assert [name for name in kept if operations[name] != "update"] == [], update.steps
    created = [name for name, operation in operations.items() if operation in ("create", "delete")]
    # The older version had no volume for engines and no steps around a node's change, and the gateway's
    # container pulled its image.
    engines = [name for name in created if "-engines@" in name]
    steps = [name for name in created if re.search("(-turn|-recovery|-tried|gateway-traffic)@", name)]
    image = [name for name in created if "RemoteImage::gateway-image@" in name]
    expected = sorted(engines + steps + image)
    assert sorted(created) == expected, "resources of the older version have other names now"
    assert len(engines) == len(older.gpu_hosts())
    assert all(older.healthy(host) for host in older.gpu_hosts())
    assert older.ask()
    assert older.up().check().steps == {}, "a second update changes something"
    older.program.destroy().check()
    assert [thing for host in older.fleet.hosts.values() for thing in left(host)] == []
