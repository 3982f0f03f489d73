"""The folder of backends that an embedded Triton reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.embedded.declarations import NodeDeclaration, TritonDeclaration
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.node import MODELS_VENV, node_programs
from infra.embedded.triton import PYTHON_BASED, TritonInstallation, install_backends
from infra.triton_arguments import TritonPorts

pytestmark = pytest.mark.fast
needs_triton = pytest.mark.skipif(not MODELS_VENV.exists(), reason="the models' environment is not there")


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


def node(repository: Path, *models: str) -> NodeDeclaration:
    """An embedded node whose service uses `models`."""
    triton = TritonDeclaration(
        ports=TritonPorts(8000, 8001, 8002), repository=str(repository), models=models or None
    )
    return NodeDeclaration(name="dev-1", http=8800, grpc=9800, triton=triton, service={})


def write(repository: Path, name: str, config: str | None, file: str) -> None:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / file).touch()
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)


@pytest.mark.parametrize(
    ("config", "file", "backend"),
    [
        ('platform: "tensorrt_plan"', "model.plan", "tensorrt"),
        (None, "model.plan", "tensorrt"),
        ('backend: "pytorch"', "model.pt", "pytorch"),
        ('backend: "tensorrtllm"', "model.engine", "tensorrtllm"),
    ],
)
def test_a_model_in_use_whose_backend_is_not_there_is_refused_by_name(
    tmp_path: Path, config: str | None, file: str, backend: str
) -> None:
    write(tmp_path / "models", "emotion", config, file)
    with pytest.raises(EmbeddedError) as refused:
        node_programs(Layout(tmp_path / "dev"), node(tmp_path / "models", "emotion"))
    assert str(refused.value) == (
        f"node dev-1: the model emotion needs Triton's backend {backend}, and the embedded Triton has python "
        "and onnxruntime only; serve the model on a Docker host, or export it to ONNX"
    )


@needs_triton
def test_such_a_model_that_nobody_chose_keeps_no_node_from_starting(tmp_path: Path) -> None:
    write(tmp_path / "models", "emotion", 'backend: "pytorch"', "model.pt")
    assert node_programs(Layout(tmp_path / "dev"), node(tmp_path / "models"))


@needs_triton
@pytest.mark.parametrize(
    ("config", "completes"), [(None, True), ('input { name: "a" } output { name: "b" }', False)]
)
def test_triton_completes_configurations_only_where_a_graph_comes_without_its_own(
    tmp_path: Path, config: str | None, completes: bool
) -> None:
    write(tmp_path / "models", "emotion", config, "model.onnx")
    triton, _ = node_programs(Layout(tmp_path / "dev"), node(tmp_path / "models", "emotion"))
    assert ("--disable-auto-complete-config" not in triton.command) is completes
