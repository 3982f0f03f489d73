"""Full disks are named before an update changes anything."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from infra.connection import RemoteError
from infra.models.files import versions
from infra.stack import Stack, parse, parse_host
from infra.steps.images import copy
from infra.update import disks, prepare
from infra.update.disks import Need
from infra.update.questions import ask
from tests.infra.conftest import Double
from tests.infra.test_images import DOCKER, REFERENCE, declared

pytestmark = pytest.mark.fast

HOST = "unix:///nowhere.sock"
MANIFEST = [
    {
        "Descriptor": {"platform": {"os": "linux", "architecture": architecture}},
        "SchemaV2Manifest": {"layers": [{"size": size}, {"size": size}]},
    }
    for architecture, size in (("arm64", 1 << 30), ("amd64", 100 << 20))
]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    folder = tmp_path / "models" / "asr" / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text('name: "asr"\n')
    (folder / "weights").write_bytes(bytes(3 << 20))
    versions.cache_clear()
    keys: dict[str, Any] = {
        "nodes": [{"name": "gpu-1", "host": HOST}, {"name": "gpu-2", "host": "ssh://root@192.0.2.12"}],
        "triton": {"image": "registry.example.com/triton:1"},
        "models": {"source": "sync", "path": str(tmp_path / "models")},
        "remoteDir": str(tmp_path / "host"),
    }
    return parse(keys, "prod")


def docker(tmp_path: Path, manifest: object = None) -> str:
    """A Docker that has no image."""
    (tmp_path / "manifest").write_text("" if manifest is None else json.dumps(manifest, indent=1))
    return f"""
case "$1 $2" in
  "info "*) echo {tmp_path} ;;
  "image inspect") exit 1 ;;
  "manifest inspect") cat {tmp_path}/manifest ;;
esac
"""


def df(kibibytes: int) -> str:
    return f"echo Filesystem; echo '/dev/x 9 9 {kibibytes} 97% /data'"


def full(stack: Stack) -> list[str]:
    """What the host gpu-1 lacks, by its answer."""
    host = stack.node("gpu-1").host
    wanted = disks.needs(stack, {stack.node("gpu-2").host})[host]
    [answer] = ask({host: [disks.question(wanted)]}, stack.ssh, 10).said[host]
    return [str(each) for each in disks.parsed(host, wanted, answer, "linux/amd64")]


def test_a_disk_with_room_is_not_named(stack: Stack, tmp_path: Path, double: Double) -> None:
    double("docker", docker(tmp_path, MANIFEST))
    double("df", df(4 << 20))
    assert full(stack) == []


def test_all_that_one_disk_gets_is_added_up_and_named(stack: Stack, tmp_path: Path, double: Double) -> None:
    double("docker", docker(tmp_path, MANIFEST))
    # 600 MiB each of Triton and nginx, unpacked, and 3 MiB of the model; the service's size is not known.
    double("df", df(602 << 10))
    [line] = full(stack)
    assert line.startswith(
        f"{HOST}: /data has 602 MiB free, and 1,203 MiB are needed for the image registry."
    )
    assert re.search(r"the image gpu-inference/service:\w+, the model asr-\w+", line)


def test_a_copy_that_is_there_needs_no_room(stack: Stack, tmp_path: Path, double: Double) -> None:
    store = tmp_path / "host" / "prod" / "gpu-1" / "models" / "store"
    store.mkdir(parents=True)
    double("docker", '[ "$1" != info ] || echo /')
    double("df", df(1))
    [line] = full(stack)
    assert "/data has 0 MiB free, and 3 MiB are needed for the model asr-" in line
    version = versions(tmp_path / "models")["asr"]
    (store / f"asr-{version}").mkdir()
    assert full(stack) == []


def test_the_size_of_an_image_is_that_of_its_platform() -> None:
    output = f"/var/lib/docker\tdocker\t{500 << 10}\t/\nx:1\tpull\t{json.dumps(MANIFEST)}\n"
    found = disks.parsed(parse_host(HOST), [Need("pull", "x:1")], output, "linux/amd64")
    assert [each.needed for each in found] == [600 << 20]
    found = disks.parsed(parse_host(HOST), [Need("pull", "x:1")], output, "linux/arm64")
    assert [each.needed for each in found] == [6 << 30]


@pytest.mark.parametrize("known", ["", "no JSON", "[]", "{}"])
def test_an_image_of_unknown_size_needs_a_gibibyte(known: str) -> None:
    for free, refused in ((1 << 20, []), ((1 << 20) - 1, [1 << 30])):
        output = f"/var/lib/docker\tdocker\t{free}\t/\nx:1\tpull\t{known}\n"
        found = disks.parsed(parse_host(HOST), [Need("pull", "x:1")], output, "linux/amd64")
        assert [each.needed for each in found] == refused


def test_an_image_that_is_built_needs_as_much_as_its_version_before() -> None:
    output = f"/var/lib/docker\tdocker\t{2 << 20}\t/\nx:1\tbuild\t{3 << 30}\n"
    [found] = disks.parsed(parse_host(HOST), [Need("build", "x:1")], output, "linux/amd64")
    assert found.needed == 3 << 30


def test_only_the_first_host_builds(stack: Stack) -> None:
    found = {str(host): [need.how for need in there] for host, there in disks.needs(stack).items()}
    assert found == {HOST: ["pull", "build", "copy", "pull"], "ssh://root@192.0.2.12": ["pull", "copy"]}


def test_an_update_stops_before_it_changes_anything_on_a_full_disk(
    stack: Stack, tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    double("docker", docker(tmp_path))
    double("df", df(1))
    double("ssh", "exit 255")
    here = stack.model_copy(update={"nodes": stack.nodes[:1]})
    monkeypatch.setattr(prepare.preflight, "probe_all", lambda *_: [])
    with pytest.raises(prepare.CannotUpdate, match="nothing was changed, because of full disks:\n  unix://"):
        prepare.prepare(here)
    assert not (tmp_path / "host").exists()


@pytest.mark.parametrize(("earlier", "needed"), [("", 6), ("sha256:1", 3)])
def test_an_image_is_not_copied_to_a_disk_without_room(
    double: Double, tmp_path: Path, earlier: str, needed: int
) -> None:
    size = 3 << 20
    script = f"""
case "$1 $2 $3" in
  "image inspect --format") [ "$4" != "{{{{.Size}}}}" ] || {{ echo {size}; exit; }} ;;
  "info "*) echo {tmp_path} ;;
  "images "*) echo {earlier} ;;
esac
"""
    calls = double("docker", script + DOCKER)
    double("df", df(2048))
    (tmp_path / "source").write_bytes(bytes(size))
    words = f"target.sock: {tmp_path} has 2 MiB free, and the image {REFERENCE} needs {needed} MiB"
    with pytest.raises(RemoteError, match=words.replace("target.sock", "target")):
        copy(declared(tmp_path))
    assert "save" not in calls.read_text()


def test_the_script_is_one_for_a_plain_shell() -> None:
    assert subprocess.run(["sh", "-n", "-c", disks._SCRIPT], check=False).returncode == 0
