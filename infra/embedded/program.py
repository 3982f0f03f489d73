"""A program that supervisord keeps running, and the two files that declare it."""

import contextlib
import hashlib
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import launch
from infra.embedded.layout import Layout

#: Set in every process, with the stack's folder as its value: identifies orphaned children.
MARK = "GPU_INFERENCE_STATE"


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running.

    `environment` is the complete environment. `revision` is a digest of the files that the program reads at
    start: a new revision restarts it. The program may take `stop_seconds` to end after `stop_signal`.
    `leftovers` is the path prefix of the files that the program leaves when it is killed: the stack removes
    them before the program starts and when it is removed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    revision: str
    stop_seconds: int
    stop_signal: str = "TERM"
    leftovers: str = ""


def program_files(layout: Layout, program: Program) -> tuple[str, str]:
    """The two files of a program: its specification for `launch`, and its section for supervisord."""
    specification = json.dumps(
        {
            "command": list(program.command),
            "environment": {**program.environment, MARK: str(layout.root)},
            "directory": str(program.directory),
            "record": str(layout.record(program.name)),
            "leftovers": program.leftovers,
            "revision": program.revision,
        },
        indent=1,
        sort_keys=True,
    )
    command = [sys.executable, "-I", "-S", launch.__file__, str(layout.specification(program.name))]
    # supervisord compares this section only: the digest makes a changed specification a changed program.
    settings = {
        "command": shlex.join(command),
        "environment": f'SPECIFICATION="{hashlib.sha256(specification.encode()).hexdigest()}"',
        "autorestart": "true",
        "startsecs": "1",
        "startretries": "1000",
        "stopsignal": program.stop_signal,
        "stopwaitsecs": str(program.stop_seconds),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(layout.log(program.name)),
        "stdout_logfile_maxbytes": "10MB",
        "stdout_logfile_backups": "2",
    }
    return specification, ini(f"program:{program.name}", settings)


def write_private(path: Path, text: str) -> bool:
    """Write a file that only its owner can read, atomically; returns whether its text changed."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return False
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_text(text)
    temporary.replace(path)
    return True


def ini(section: str, settings: Mapping[str, str]) -> str:
    """A section of supervisord's configuration; `%` is escaped, since it begins an expansion there."""
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in settings.items()]
    return f"[{section}]\n" + "\n".join(lines) + "\n\n"
