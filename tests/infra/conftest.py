"""Doubles of the commands that steps call: scripts at the front of PATH that record their calls."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pulumi
import pytest

Double = Callable[[str, str], Path]


@pytest.fixture
def double(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Double:
    """Makes a command of that name with that shell script. Returns the file that records its calls."""
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


@pytest.fixture(autouse=True)
def engine_of_its_own() -> Iterator[None]:
    """Each test begins without the mocks of another, outside a preview, and with a loop for programs.

    Pulumi runs programs on the thread's event loop, and asyncio.run of other tests leaves none.
    """
    pulumi.runtime.settings.reset_options()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()
