"""Models on a host: copies are complete, the switch is atomic, and Triton never sees an incomplete model."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import IO

import pytest

from infra.connection import Connection, RemoteError
from infra.doctor.linter import config as model_config
from infra.models.files import ModelsError, versions
from infra.models.pbtxt import parameters
from infra.steps import models as model_sync
from tests.infra.conftest import Double

# A host that is this computer: scripts run here.
HERE = Connection("unix:///nowhere.sock")
# Both containers run, and Triton does what it is told.
RUNNING = 'if [ "$1" = ps ]; then echo triton; echo service; fi'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for name in ("asr", "emotion"):
        (folder / name / "1" / "__pycache__").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(f'name: "{name}"\n')
        (folder / name / "1" / "model.py").write_text("# one\n")
        (folder / name / "1" / "__pycache__" / "model.pyc").write_text("x")
    (folder / "requirements.txt").write_text("numpy\n")
    return folder


class Node:
    """A node's models on a host, and the steps that a stack declares for them."""

    def __init__(self, source: Path, root: Path) -> None:
        self.source, self.root = source, root
        self.repository = root / "repository"

    def copy(self) -> None:
        versions.cache_clear()
        for model, digest in versions(self.source).items():
            source = str(self.source / model)
            copied = model_sync.Copy(
                connection=HERE, root=str(self.root), source=source, model=model, version=digest
            )
            model_sync.copy(copied)

    def in_use(self, triton: str | None = None, loads: tuple[str, ...] | None = None) -> model_sync.InUse:
        return model_sync.InUse(
            connection=HERE,
            root=str(self.root),
            node="gpu-1",
            models=versions(self.source),
            service="service",
            triton=triton,
            loads=loads,
        )

    def activate(self, triton: str | None = None, loads: tuple[str, ...] | None = None) -> None:
        model_sync.activate(self.in_use(triton, loads))

    def text(self, model: str) -> str:
        return (self.repository / model / "1" / "model.py").read_text()

    def store(self) -> set[str]:
        return {path.name for path in (self.root / "store").iterdir()}


def told(docker: Path) -> list[str]:
    """What Triton was told to do, from the calls of the docker double."""
    lines = docker.read_text().splitlines()
    return [" ".join(line.split()[-2:]) for line in lines if line.split()[-2:-1] in (["load"], ["unload"])]


@pytest.fixture
def node(source: Path, tmp_path: Path) -> Node:
    return Node(source, tmp_path / "host" / "models")


def test_models_are_there_when_they_are_switched_to_and_not_before(node: Node) -> None:
    node.copy()
    assert list(node.repository.iterdir()) == []
    node.activate()
    assert {path.name for path in node.repository.iterdir()} == {"asr", "emotion"}
    assert node.text("asr") == "# one\n"
    assert not list(node.root.rglob("*.pyc"))


def test_a_copied_model_says_its_version_in_its_configuration(node: Node) -> None:
    node.copy()
    node.activate()
    config = (node.repository / "asr" / "config.pbtxt").read_text()
    assert parameters(config) == {"content_hash": versions(node.source)["asr"]}
    assert model_config.parse(config).name == "asr"


def test_the_version_of_a_copy_replaces_one_that_the_folder_has(node: Node) -> None:
    old = 'parameters [{ key: "content_hash" value: { string_value: "old" } }]'
    (node.source / "asr" / "config.pbtxt").write_text(f'name: "asr"\n{old}')
    node.copy()
    node.activate()
    config = model_config.parse((node.repository / "asr" / "config.pbtxt").read_text())
    assert config.parameters["content_hash"].string_value == versions(node.source)["asr"]


def test_a_changed_model_is_the_only_one_that_is_copied_and_switched(node: Node, double: Double) -> None:
    node.copy()
    node.activate()
    before = node.store()
    untouched = (node.repository / "asr").lstat().st_ino
    (node.source / "emotion" / "1" / "model.py").write_text("# two\n")
    node.copy()
    assert len(node.store() - before) == 1
    docker = double("docker", RUNNING)
    node.activate(triton="triton")
    assert node.text("emotion") == "# two\n"
    assert (node.repository / "asr").lstat().st_ino == untouched
    assert told(docker) == ["load emotion"]
    assert len(node.store()) == 3, "the version before stays, for the way back"
    node.activate(triton="triton")
    assert len(node.store()) == 2, "until the next activation"


def test_a_model_that_no_service_asks_for_is_switched_and_not_loaded(node: Node, double: Double) -> None:
    docker = double("docker", RUNNING)
    node.copy()
    node.activate(triton="triton", loads=("asr",))
    assert node.text("emotion") == "# one\n"
    assert told(docker) == ["load asr"]


def test_an_unchanged_model_is_not_copied_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.copy()

    def never(_model: Path, _version: str, _out: IO[bytes]) -> None:
        raise AssertionError("copied again")

    monkeypatch.setattr(model_sync, "pack", never)
    node.copy()


def test_a_copy_that_is_cut_short_is_never_there(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model_sync.pack

    class Cut:
        def __init__(self, out: IO[bytes]) -> None:
            self._out, self._left = out, 1024

        def write(self, data: bytes) -> int:
            self._out.write(data[: self._left])
            self._left -= min(self._left, len(data))
            return len(data)

    monkeypatch.setattr(model_sync, "pack", lambda model, version, out: whole(model, version, Cut(out)))  # type: ignore[arg-type]
    with pytest.raises(RemoteError, match="copying model asr"):
        node.copy()
    assert all(name.startswith(".partial-") for name in node.store())
    monkeypatch.undo()
    node.copy()
    node.activate()
    assert node.text("asr") == "# one\n"


def test_a_copy_that_differs_from_its_digests_is_rejected(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model_sync.pack

    def corrupt(model: Path, version: str, out: IO[bytes]) -> None:
        archive = io.BytesIO()
        whole(model, version, archive)
        out.write(archive.getvalue().replace(b"# one", b"# 0ne"))

    monkeypatch.setattr(model_sync, "pack", corrupt)
    with pytest.raises(RemoteError, match=r"1/model\.py"):
        node.copy()
    assert all(name.startswith(".partial-") for name in node.store())


def test_a_model_that_triton_refuses_leaves_the_old_one_in_use(node: Node, double: Double) -> None:
    node.copy()
    node.activate()
    (node.source / "emotion" / "1" / "model.py").write_text("# broken\n")
    node.copy()
    double(
        "docker", 'if [ "$1" = ps ]; then echo triton; echo service; else echo "emotion: no" >&2; exit 1; fi'
    )
    with pytest.raises(RemoteError, match="node gpu-1: emotion: no"):
        node.activate(triton="triton")
    assert node.text("emotion") == "# one\n"


def test_a_triton_that_does_not_run_is_left_alone(node: Node, double: Double) -> None:
    docker = double("docker", "")
    node.copy()
    node.activate(triton="triton")
    assert docker.read_text().splitlines() == ["ps --format {{.Names}}"]


def test_a_model_that_is_not_declared_any_more_is_unloaded_and_goes(node: Node, double: Double) -> None:
    node.copy()
    node.activate()
    for path in sorted((node.source / "emotion").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (node.source / "emotion").rmdir()
    versions.cache_clear()
    docker = double("docker", RUNNING)
    node.activate(triton="triton")
    assert [path.name for path in node.repository.iterdir()] == ["asr"]
    assert told(docker) == ["unload emotion"]


def test_removing_the_models_leaves_nothing_behind(node: Node) -> None:
    node.copy()
    node.activate()
    model_sync.remove(node.in_use())
    assert not node.root.parent.exists()


def test_a_models_version_is_its_content(source: Path) -> None:
    before = dict(versions(source))
    (source / "asr" / "config.pbtxt").touch()
    versions.cache_clear()
    assert versions(source) == before
    (source / "asr" / "2").mkdir()
    (source / "asr" / "2" / "model.py").write_text("# one\n")
    versions.cache_clear()
    after = versions(source)
    assert after["asr"] != before["asr"]
    assert after["emotion"] == before["emotion"]


def test_a_folder_without_models_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ModelsError, match=r"models\.path: no model in"):
        versions(tmp_path)
    with pytest.raises(ModelsError, match=r"models\.path: there is no folder") as refused:
        versions(tmp_path / "none")
    assert f"{tmp_path}/none on this computer; set it to the folder of the models" in str(refused.value)


@pytest.mark.parametrize("name", ["a $(touch ran) b", "asr (v2)", "-asr", "it's", "a;b", "ä", "a" * 101])
def test_a_model_with_an_unfit_name_is_refused_by_that_name(node: Node, name: str) -> None:
    (node.source / name / "1").mkdir(parents=True)
    with pytest.raises(ModelsError, match=re.escape(repr(name))) as refused:
        node.copy()
    assert "expected letters, digits, dots, hyphens and underscores" in str(refused.value)
    assert not node.root.exists()


@pytest.mark.parametrize(
    "name", ["a $(touch ran) b", "asr (v2)", "it's `touch ran`", 'say "hi"; touch ran', "*"]
)
@pytest.mark.parametrize("way", ["here", "ssh"])
def test_no_name_is_run_as_shell_code_on_the_host(
    source: Path, tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    """Names that releases before 0.1.0 allowed are still in states and on hosts, and folders may have any."""
    monkeypatch.chdir(tmp_path)
    # As sshd does: the last argument is a text for the user's shell.
    double("ssh", 'for text in "$@"; do :; done; exec sh -c "$text"')
    connection = Connection("ssh://gpu-1") if way == "ssh" else HERE
    root = tmp_path / f"host {name.replace('*', 's')}" / "models"

    def activate(*models: str) -> None:
        for model in models:
            copied = model_sync.Copy(
                connection=connection, root=str(root), source=str(source / "asr"), model=model, version="1"
            )
            model_sync.copy(copied)
        in_use = model_sync.InUse(
            connection=connection,
            root=str(root),
            node="gpu-1",
            models=dict.fromkeys(models, "1"),
            service="service",
            triton=None,
        )
        model_sync.activate(in_use)

    activate(name, "asr")
    assert (root / "repository" / name / "1" / "model.py").read_text() == "# one\n"
    assert {path.name for path in (root / "store").iterdir()} == {f"{name}-1", "asr-1"}
    (root / "store" / "old copy's").mkdir()
    activate("asr")
    assert [path.name for path in (root / "repository").iterdir()] == ["asr"]
    assert {path.name for path in (root / "store").iterdir()} == {f"{name}-1", "asr-1"}, "for the way back"
    activate("asr")
    assert [path.name for path in (root / "store").iterdir()] == ["asr-1"]
    connection.remove_folder(str(root))
    assert not root.parent.exists()
    assert not list(tmp_path.rglob("ran"))


def test_a_node_is_removed_also_where_the_folder_above_is_a_link(node: Node, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "host").symlink_to(tmp_path / "disk")
    node.copy()
    model_sync.remove(node.in_use())
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_disk_with_too_little_room_is_named_before_a_model_is_sent(node: Node, double: Double) -> None:
    double("df", "echo Filesystem; echo '/dev/x 100 97 3 97% /'")
    (node.source / "asr" / "1" / "weights").write_bytes(bytes(5000))
    with pytest.raises(RemoteError, match=r"copying model asr: .*/store has 3 KiB free, .* needs 4 KiB"):
        node.copy()
    assert node.store() == set()


def test_a_copy_that_the_disk_cuts_off_is_removed_at_once(node: Node, double: Double) -> None:
    double("tar", 'mkdir -p "$5"; echo half >"$5"/half; echo \'No space left on device\'; exit 2')
    with pytest.raises(RemoteError, match="No space left on device"):
        node.copy()
    assert node.store() == set()
