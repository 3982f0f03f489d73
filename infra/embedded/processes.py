"""The processes of this computer: recorded processes, process groups, and the listeners of ports."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path

import psutil

from infra.embedded.launch import boot_id, start_ticks

_POLL_SECONDS = 0.05


def recorded(path: Path) -> int | None:
    """The pid in a record of `launch`, if the recorded process still runs."""
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
    """Whether a process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether a process started with the environment variable `name` set to `value`."""
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


def is_free(port: int, address: str) -> bool:
    """Whether a process of this user can listen on an IPv4 address and port. Raises PermissionError."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            raise
        except OSError:
            return False
    return True


def listener(port: int) -> psutil.Process | None:
    """The process that listens on a port; None if it has ended or belongs to another user."""
    for connection in psutil.net_connections("tcp"):
        # An unbound socket has an empty address.
        bound = getattr(connection.laddr, "port", None)
        if connection.status == psutil.CONN_LISTEN and bound == port and connection.pid:
            with contextlib.suppress(psutil.NoSuchProcess):
                return psutil.Process(connection.pid)
    return None
