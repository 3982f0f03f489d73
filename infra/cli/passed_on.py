"""Commands that are command lines of their own: doctor, models, bench. They replace this process."""

import os
import sys
from typing import Final, NoReturn

import typer

from infra.cli.screen import Failed
from infra.paths import PACKAGE

#: The options belong to the command, also --help.
SETTINGS: Final = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def doctor(context: typer.Context) -> int:
    """Check a whole fleet, and say what to do (fleet doctor --help)."""
    _become("infra.doctor", context.args)


def models(context: typer.Context) -> int:
    """List, fetch, convert, export or check models (fleet models --help)."""
    _become("infra.models", context.args)


def bench(context: typer.Context) -> int:
    """Measure speech recognition, throughput and latency on this computer (fleet bench --help)."""
    if not (PACKAGE / "tests" / "bench").is_dir():
        raise Failed("the benchmarks are in a checkout of the project only.\nTo run them there: make bench")
    os.chdir(PACKAGE)
    _become("tests.bench", context.args)


def _become(module: str, arguments: list[str]) -> NoReturn:
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
