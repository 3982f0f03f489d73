"""The processes of this computer: which are the stack's, which listens on a port, and how to end them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.embedded.launch import boot_id, start_ticks

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Listener:
    """The process that holds a port; `pid` and `name` are None where it belongs to another user."""

    port: int
    pid: int | None = None
    name: str | None = None

    @property
    def group(self) -> int | None:
        """The process group; None where the process is unknown or has ended."""
        try:
            return None if self.pid is None else os.getpgid(self.pid)
        except ProcessLookupError:
            return None

    def __str__(self) -> str:
        if self.pid is None:
            return f"another user's process (sudo ss -ltnp 'sport = :{self.port}' names it)"
        return f"{self.name} (pid {self.pid})"


def recorded(path: Path) -> int | None:
    """The pid in a record of `launch`, if the process that was recorded still runs."""
    try:
        record = json.loads(path.read_text())
        pid = int(record["pid"])
        if record["boot"] == boot_id() and start_ticks(pid) == record["start"] and is_alive(pid):
            return pid
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError, TypeError):
        pass  # the process or its record is gone
    return None


def group_members(pgid: int) -> list[int]:
    """The live processes of a process group."""
    members = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == pgid and is_alive(pid):
                members.append(pid)
    return members


def is_alive(pid: int) -> bool:
    """Whether a process runs. One of which only the exit status is left, which nobody read yet, does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether a process was started with an environment variable of that value."""
    try:
        return psutil.Process(pid).environ().get(name) == value
    except psutil.Error:  # it has ended, or belongs to another user
        return False


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pgid, number)


def end_group(pgid: int, grace: float) -> None:
    """End a process group: SIGTERM, then SIGKILL for the processes that still run after `grace` seconds."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        signal_group(pgid, signal_number)
        deadline = time.monotonic() + grace
        while group_members(pgid) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def listener(port: int, address: str = "127.0.0.1") -> Listener | None:
    """The process that prevents listening on `address`:`port`; None where the port is free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            raise
        except OSError:
            pid = _listening_process(port)
            return Listener(port, pid, _name(pid) if pid is not None else None)
    return None


def _listening_process(port: int) -> int | None:
    """The process that listens on a port; None where it belongs to another user."""
    for connection in psutil.net_connections("tcp"):
        # An unbound socket has an empty address.
        bound = getattr(connection.laddr, "port", None)
        if connection.status == psutil.CONN_LISTEN and bound == port and connection.pid:
            return connection.pid
    return None


def _name(pid: int) -> str:
    """The program and, for an interpreter, what it runs."""
    try:
        process = psutil.Process(pid)
        # A process that wrote a title over its arguments has none.
        return " ".join([process.name(), *process.cmdline()[1:3]]).strip()
    except psutil.NoSuchProcess:
        return "a process that has just ended"
