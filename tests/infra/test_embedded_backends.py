"""The folder of backends that an embedded Triton reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.embedded.triton import PYTHON_BASED, TritonInstallation, install_backends

pytestmark = pytest.mark.fast


@pytest.fixture
def installation(tmp_path: Path) -> TritonInstallation:
    """The files of a wheel's Triton, without their content."""
    backend = tmp_path / "wheel" / "backends" / "python"
    backend.mkdir(parents=True)
    for name in ("libtriton_python.so", "triton_python_backend_utils.py", "stub"):
        (backend / name).write_text(name)
    return TritonInstallation(
        venv=tmp_path, server=tmp_path, python_backend=backend, stub=backend / "stub", library_folders=()
    )


def test_it_has_the_python_backend_and_this_projects_own(
    installation: TritonInstallation, tmp_path: Path
) -> None:
    folder = install_backends(installation, tmp_path / "backends")
    assert {path.name for path in folder.iterdir()} == {"python", "onnxruntime"}
    assert {path.name for path in (folder / "python").iterdir()} == {
        "libtriton_python.so",
        "triton_python_backend_utils.py",
        "stub",
    }
    own = folder / "onnxruntime" / "model.py"
    assert own.read_text() == (PYTHON_BASED / "onnxruntime" / "model.py").read_text()


def test_no_file_is_a_symbolic_link_which_triton_would_refuse(
    installation: TritonInstallation, tmp_path: Path
) -> None:
    links = tmp_path / "backends" / "python"
    links.mkdir(parents=True)
    (links / "libtriton_python.so").symlink_to(installation.python_backend / "libtriton_python.so")
    folder = install_backends(installation, tmp_path / "backends")
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_an_upgraded_file_replaces_the_former_one_and_the_same_one_stays(
    installation: TritonInstallation, tmp_path: Path
) -> None:
    library = installation.python_backend / "libtriton_python.so"
    placed = install_backends(installation, tmp_path / "backends") / "python" / library.name
    before = placed.stat().st_ino
    install_backends(installation, tmp_path / "backends")
    assert placed.stat().st_ino == before
    library.unlink()
    library.write_text("a later release")
    install_backends(installation, tmp_path / "backends")
    assert placed.read_text() == "a later release"
