"""Doubles of the commands that steps call: scripts at the front of PATH that note how they were called."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Double = Callable[[str, str], Path]


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Makes a command of that name with that shell script; returns the file that its calls are noted in."""
    folder = tmp_path / "doubles"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name: str, script: str) -> Path:
        calls = folder / f"{name}.calls"
        calls.touch()
        command = folder / name
        command.write_text(f'#!/bin/sh\necho "$*" >>{calls}\n{script}\n')
        command.chmod(0o755)
        return calls

    return make
