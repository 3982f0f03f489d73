"""Setting up an environment: one at a time, and complete or not at all.

A shell script stands in for Python and pip; no package is installed.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.paths import PROJECT
from scripts import pip_progress

pytestmark = pytest.mark.fast

SCRIPT = PROJECT / "scripts" / "environment.sh"

#: `pip install` records its start, waits while the file `hold` exists, and records its end.
PYTHON = """#!/bin/sh
case "$1 $2" in
-c*) exit 0 ;;
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip")
    [ "$3" = install ] || exit 0
    echo begin >>pip.log
    while [ -e hold ]; do sleep 0.02; done
    touch .venv/package
    echo end >>pip.log
    ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with requirements, and an interpreter called `fake-python` on its PATH."""
    (tmp_path / "fake-python").write_text(PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    (tmp_path / "requirements.txt").touch()
    return tmp_path


def start(checkout: Path) -> subprocess.Popen[str]:
    """Starts a set-up in a process group of its own, as a terminal does.

    A shell that runs the tests in the background ignores SIGINT, and a process would inherit that.
    """
    command = [str(SCRIPT), ".venv", "packages", "requirements.txt"]
    environment = {
        **os.environ,
        "PYTHON": "missing-python fake-python",
        "PATH": f"{checkout}:{os.environ['PATH']}",
    }
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def set_up(checkout: Path) -> str:
    """Sets up and returns the output."""
    output, errors = (process := start(checkout)).communicate(timeout=60)
    assert process.returncode == 0, errors
    return output + errors


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def installs(checkout: Path) -> list[str]:
    log = checkout / "pip.log"
    return log.read_text().split() if log.exists() else []


def test_sets_up_once(checkout: Path) -> None:
    assert "setting up .venv with fake-python: packages" in set_up(checkout)
    assert set_up(checkout) == ""
    assert installs(checkout) == ["begin", "end"]


def test_a_changed_requirement_is_installed(checkout: Path) -> None:
    set_up(checkout)
    later = time.time() + 10
    os.utime(checkout / "requirements.txt", (later, later))
    assert "bringing .venv up to date" in set_up(checkout)
    assert installs(checkout) == ["begin", "end"] * 2


def test_a_second_set_up_waits_and_says_so(checkout: Path) -> None:
    (checkout / "hold").touch()
    first = start(checkout)
    wait_until(lambda: installs(checkout) == ["begin"])
    second = start(checkout)
    assert second.stderr is not None
    assert "another make command is setting up an environment here; waiting" in second.stderr.readline()
    (checkout / "hold").unlink()
    assert first.wait(60) == 0
    assert second.wait(60) == 0
    assert installs(checkout) == ["begin", "end"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_set_up_starts_again(checkout: Path, number: signal.Signals) -> None:
    (checkout / "hold").touch()
    process = start(checkout)
    wait_until(lambda: installs(checkout) == ["begin"])
    (checkout / ".venv" / "half-installed").touch()
    os.killpg(process.pid, number)
    process.wait(60)
    assert not (checkout / ".venv" / ".installed").exists()
    (checkout / "hold").unlink()
    assert "the last set-up of .venv was interrupted: starting again" in set_up(checkout)
    assert (checkout / ".venv" / "package").exists()
    assert not (checkout / ".venv" / "half-installed").exists()


def test_an_environment_without_pip_is_created_anew(checkout: Path) -> None:
    set_up(checkout)
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "left").touch()
    assert ".venv has no working pip: starting again" in set_up(checkout)
    assert not (checkout / ".venv" / "left").exists()


def test_a_missing_python_is_named(checkout: Path) -> None:
    (checkout / "fake-python").unlink()
    process = start(checkout)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "none of these is: missing-python fake-python" in errors
    assert not (checkout / ".venv").exists()


def test_make_repairs_an_environment_whose_interpreter_is_gone(checkout: Path) -> None:
    shutil.copy(PROJECT / "Makefile", checkout)
    shutil.copy(PROJECT / "pyproject.toml", checkout)
    (checkout / "requirements").mkdir()
    (checkout / "requirements" / "dev.txt").touch()
    (checkout / "scripts").mkdir()
    shutil.copy(SCRIPT, checkout / "scripts")
    environment = {**os.environ, "PATH": f"{checkout}:{os.environ['PATH']}"}
    command = ["make", "PYTHON=fake-python", ".venv/.installed"]

    def make() -> str:
        return subprocess.run(
            command, cwd=checkout, env=environment, text=True, capture_output=True, check=True
        ).stdout

    assert "setting up .venv" in make()
    assert "up to date" in make()
    (checkout / ".venv" / "bin" / "python").unlink()
    assert "starting again" in make()


def test_a_terminal_shows_how_far_the_set_up_has_come() -> None:
    printed = [
        "Ignoring colorama: markers 'sys_platform == \"win32\"' don't match your environment",
        "Collecting numpy==2.4.0 (from -r requirements/dev.txt (line 12))",
        "  Downloading numpy-2.4.0-cp312-cp312-manylinux_2_28_x86_64.whl (16.1 MB)",
        "Collecting av==18.1.0 (from -r requirements/dev.txt (line 20))",
        "  Using cached av-18.1.0-cp312-cp312-manylinux_2_28_x86_64.whl (39.0 MB)",
        "Collecting soxr==0.5.0",
        "Installing collected packages: numpy, av, soxr",
    ]
    assert list(pip_progress.lines(printed, 8, itertools.count(1.0, 5.0))) == [
        "1 of 8 packages: colorama",
        "2 of 8 packages: numpy",
        "2 of 8 packages: numpy, 16.1 MB",
        "3 of 8 packages: av",
        "4 of 8 packages: soxr, about 61 s left",
        "writing the files of 8 packages, about 8 s left",
    ]


def test_on_a_terminal_a_failed_installation_is_a_failed_set_up(checkout: Path) -> None:
    (checkout / "requirements.txt").write_text("numpy==2.4.0 \\\n    --hash=sha256:00\n")
    failing = PYTHON.replace("touch .venv/package", "echo 'no such version' >&2; exit 1")
    # The progress is shown by a real interpreter.
    failing = failing.replace(
        "-c*) exit 0 ;;", f'-c*) exit 0 ;;\n*pip_progress.py*) exec {sys.executable} "$@" ;;'
    )
    (checkout / "fake-python").write_text(failing)
    reading, writing = os.openpty()
    process = subprocess.Popen(
        [str(SCRIPT), ".venv", "packages", "requirements.txt"],
        cwd=checkout,
        env={**os.environ, "PYTHON": "fake-python", "PATH": f"{checkout}:{os.environ['PATH']}"},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, errors = process.communicate(timeout=60)
    os.close(writing)
    os.close(reading)
    assert (process.returncode, "no such version" in errors) == (1, True)
    assert not (checkout / ".venv" / ".installed").exists()
