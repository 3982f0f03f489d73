"""Paths of the project, as the Pulumi program and the providers see them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
#: What is sent through a fleet to see that it serves.
RECORDING = PROJECT / "recordings" / "inaugural-1961.flac"


def here(path: str | Path) -> str:
    """A path of the project, relative to the working directory of the program and of the providers.

    Absolute paths would differ from one computer to the next and show as changes; `~/…`, which `ssh` expands,
    and absolute paths that somebody chose stay as they are.
    """
    text = str(path)
    if text.startswith("~") or Path(text).is_absolute():
        return text
    return os.path.relpath(PROJECT / text)


def python() -> str:
    """This Python, relative to the project where it is the project's own."""
    executable = Path(sys.executable)
    return str(executable.relative_to(PROJECT)) if executable.is_relative_to(PROJECT) else str(executable)


def pulumi_cli() -> Path | None:
    """The Pulumi CLI: on PATH, or where its installer puts it."""
    found = shutil.which("pulumi") or shutil.which("pulumi", path=str(Path.home() / ".pulumi" / "bin"))
    return Path(found) if found else None
