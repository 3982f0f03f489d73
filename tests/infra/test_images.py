"""Without a registry, an image is built on one host, and the others get copies of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from infra.connection import Connection, RemoteError
from infra.stack import parse_host
from infra.steps.images import ImageCopy, copy
from infra.update.prepare import Away
from tests.infra.conftest import Double
from tests.infra.declared import Fleet, declare

HOSTS = [f"ssh://root@192.0.2.{number}" for number in (11, 12, 13)]


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """A build context; a test may change it."""
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text("FROM scratch\n")
    return tmp_path / "context"


def config(build: Path, count: int = 3, *, images: dict[str, str] | None = None) -> dict[str, Any]:
    nodes = [{"name": f"gpu-{n + 1}", "host": HOSTS[n]} for n in range(count)]
    rollout = {"unreachable": "skip"}
    return {
        "nodes": nodes,
        "service": {"build": {"context": str(build)}},
        "images": images or {},
        "rollout": rollout,
    }


def made(fleet: Fleet) -> dict[str, str]:
    """How each host gets the service's image: `built`, or the address that it is copied from."""
    found = {}
    for each in fleet.resources.values():
        host = each.name.partition("@")[2]
        if each.type.endswith(":Image"):
            found[host] = "built"
        elif each.name.startswith("service-image@") and "stdin" in each.inputs:
            found[host] = each.declaration["source"]["host"]
    return found


def first_away(fleet: Fleet) -> Away:
    return Away(frozenset({parse_host(HOSTS[0])}), ("gpu-1",), fleet.state)


def test_the_first_host_builds_and_the_others_get_copies(build: Path) -> None:
    fleet = declare(config(build))
    assert made(fleet) == {
        "root@192.0.2.11": "built",
        "root@192.0.2.12": HOSTS[0],
        "root@192.0.2.13": HOSTS[0],
    }
    [image] = fleet.of(":Image")
    assert image.inputs["skipPush"]
    for address in ("12", "13"):
        name = f"service-image@root@192.0.2.{address}"
        assert image.name in fleet.after(name)
        assert fleet[name].declaration["reference"] == image.inputs["imageName"]
        assert fleet[name].declaration["target"]["host"].endswith(address)
        assert name in fleet.after("gpu-1-service"), "all hosts have the image before a container changes"


def test_each_host_builds_its_own_where_the_stack_says_so(build: Path) -> None:
    fleet = declare(config(build, images={"build": "everywhere"}))
    assert set(made(fleet).values()) == {"built"}
    assert len({resource.provider for resource in fleet.of(":Image")}) == 3


def test_a_new_node_changes_nothing_for_the_others(build: Path) -> None:
    before, after = declare(config(build, 2)), declare(config(build, 3))
    for name in ("service-image@root@192.0.2.11", "service-image@root@192.0.2.12"):
        assert before[name].inputs == after[name].inputs


def test_while_the_builder_is_away_nothing_is_built_again(build: Path) -> None:
    everything = declare(config(build))
    skipped = declare(config(build), first_away(everything))
    assert not skipped.of(":Image")
    for name in ("service-image@root@192.0.2.12", "service-image@root@192.0.2.13"):
        assert skipped[name].inputs == everything[name].inputs


def test_a_new_node_gets_its_copy_from_another_one_while_the_builder_is_away(build: Path) -> None:
    deployed = declare(config(build, 2))
    skipped = declare(config(build, 3), first_away(deployed))
    assert made(skipped) == {"root@192.0.2.12": HOSTS[0], "root@192.0.2.13": HOSTS[1]}


def test_the_next_host_builds_a_new_version_while_the_builder_is_away(build: Path) -> None:
    deployed = declare(config(build))
    (build / "Dockerfile").write_text("FROM scratch\nLABEL new=1\n")
    skipped = declare(config(build), first_away(deployed))
    assert made(skipped) == {"root@192.0.2.12": "built", "root@192.0.2.13": HOSTS[1]}
    assert "service-image@root@192.0.2.12" in skipped.after("service-image@root@192.0.2.13")


# The step -------------------------------------------------------------------------------------------------

REFERENCE = "gpu-inference/service:0123456789abcdef"
# Each socket stands for a host, and a file beside it for the image there.
DOCKER = """
host=${DOCKER_HOST#unix://}
case "$1 $2" in
  "image inspect") [ -e "$host" ] || { echo "Error: No such image: x" >&2; exit 1; } ;;
  "save "*) cat "$host" ;;
  "load "*) cat >"$host.partial" && [ -s "$host.partial" ] && mv "$host.partial" "$host" ;;
esac
"""


def declared(folder: Path) -> ImageCopy:
    source, target = (Connection(f"unix://{folder}/{name}") for name in ("source", "target"))
    return ImageCopy(reference=REFERENCE, source=source, target=target)


def test_an_image_is_streamed_from_host_to_host(double: Double, tmp_path: Path) -> None:
    calls = double("docker", DOCKER)
    content = os.urandom(3 << 20)
    (tmp_path / "source").write_bytes(content)
    copy(declared(tmp_path))
    assert (tmp_path / "target").read_bytes() == content
    assert f"save -- {REFERENCE}" in calls.read_text()


def test_an_image_that_is_there_is_not_copied_again(double: Double, tmp_path: Path) -> None:
    calls = double("docker", DOCKER)
    (tmp_path / "target").write_bytes(b"image")
    copy(declared(tmp_path))
    assert "save" not in calls.read_text()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "source: there is no image gpu-inference/service:"),
        ('[ "$1" != save ] || { echo no such layer >&2; exit 1; }', "source: .* cannot be read: no such"),
        ('[ "$1" != load ] || { echo disk full >&2; exit 1; }', "target: .* cannot be written: disk full"),
        ('[ "$1" != image ] || { echo no daemon >&2; exit 1; }', "target: no daemon"),
    ],
)
def test_a_copy_that_fails_names_the_host_and_the_reason(
    double: Double, tmp_path: Path, script: str, words: str
) -> None:
    double("docker", script + DOCKER)
    if script:
        (tmp_path / "source").write_bytes(os.urandom(3 << 20))
    with pytest.raises(RemoteError, match=words):
        copy(declared(tmp_path))
    assert not (tmp_path / "target").exists()
