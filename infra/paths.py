"""Where files lie: this package's own, and those of the Pulumi project that uses it.

In a checkout both are the same folder. An installed wheel has the package's files in `infra/data`, laid out
as in a checkout (`[tool.setuptools.package-dir]` in pyproject.toml).
"""

import os
import shutil
import sys
from pathlib import Path

_INFRA = Path(__file__).resolve().parent
_INSTALLED = (_INFRA / "data" / "nginx").is_dir()

#: Holds nginx/, docker/, model_repository/ and what else the package needs beside its modules.
PACKAGE = _INFRA / "data" if _INSTALLED else _INFRA.parent
#: What is sent through a fleet to see that it serves.
RECORDING = PACKAGE / "recordings" / "inaugural-1961.flac"


def _project() -> Path:
    """The folder of the Pulumi project, found from the working directory as the CLI does it."""
    working = Path.cwd()
    for folder in (working, *working.parents):
        if (folder / "Pulumi.yaml").is_file():
            return folder
    return working if _INSTALLED else PACKAGE


#: Paths in a stack file are relative to this folder, and embedded stacks keep their state in it.
PROJECT = _project()


def project_path(path: str | Path) -> Path:
    """A path of the stack file: in the project, or the package's own where the project has no such path.

    So `./model_repository` is this package's in a project without a model repository.
    """
    own = PACKAGE / path
    return own if not (PROJECT / path).exists() and own.exists() else PROJECT / path


def here(path: str | Path, base: Path = PROJECT) -> str:
    """A path under `base`, relative to the working directory of the program and of the providers.

    Absolute paths would differ from one computer to the next and show as changes; `~/…`, which `ssh` expands,
    and absolute paths that somebody chose stay as they are.
    """
    text = str(path)
    if text.startswith("~") or Path(text).is_absolute():
        return text
    return os.path.relpath(base / text)


def for_step(path: str | Path) -> str:
    """A path of the stack file as a step finds it, which runs in the project's folder."""
    return str(path) if Path(path).is_absolute() else os.path.relpath(project_path(path), PROJECT)


def python() -> str:
    """This Python, relative to the project where it is the project's own."""
    executable = Path(sys.executable)
    return str(executable.relative_to(PROJECT)) if executable.is_relative_to(PROJECT) else str(executable)


def pulumi_cli() -> Path | None:
    """The Pulumi CLI: on PATH, or where its installer puts it."""
    found = shutil.which("pulumi") or shutil.which("pulumi", path=str(Path.home() / ".pulumi" / "bin"))
    return Path(found) if found else None
