"""Checks of an embedded stack's ports and folder, and the environment of its processes."""

import os
import pwd
import sys
from pathlib import Path

import psutil

from infra import names
from infra.embedded import processes
from infra.embedded.errors import EmbeddedError
from infra.embedded.layout import Layout
from infra.embedded.supervisor import Supervisor


def check_ports(layout: Layout, ports: dict[str, int]) -> None:
    """Raise EmbeddedError naming each of `ports` that another process listens on.

    The keys of `ports` are the keys of the stack file that set them.
    """
    own = Supervisor(layout).own_pids()
    problems = []
    for setting, port in ports.items():
        try:
            if processes.is_free(port, names.LOOPBACK):
                continue
        except PermissionError:
            problems.append(f"{setting}: only root may listen on port {port}; choose one from 1024")
            continue
        holder = f"another user's process (sudo ss -ltnp 'sport = :{port}' names it)"
        if process := processes.listener(port):
            try:
                if os.getpgid(process.pid) in own:
                    continue
                # An interpreter's first arguments say what it runs. A process without a title has none.
                command = " ".join([process.name(), *process.cmdline()[1:3]]).strip()
                holder = f"{command} (pid {process.pid})"
            except (ProcessLookupError, psutil.NoSuchProcess):
                holder = "a process that has just ended"
        problems.append(f"{setting}: port {port} is taken by {holder}; end that, or set another port")
    if problems:
        raise EmbeddedError("\n".join(problems))


def check_folder(layout: Layout) -> None:
    """Raise EmbeddedError for a path with characters that supervisord or nginx would interpret."""
    unfit = sorted(set('*?["\\$') & set(str(layout.root)))
    if unfit:
        raise EmbeddedError(f"{layout.root}: its path must not contain {' '.join(unfit)}; rename the folder")


def process_environment() -> dict[str, str]:
    """The base environment of every process.

    It does not depend on the caller's: `make up` from another terminal must not restart a process.
    """
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "HOME": _home(),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:  # a user id without an entry in the user database, as in a container
        return "/"
