"""Which processes of this computer are ours, who listens on a port, and ending what was left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from infra.embedded.launch import boot_id, start_ticks

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Listener:
    """Who holds a port; `pid` and `name` are None where the process belongs to somebody else."""

    port: int
    pid: int | None = None
    name: str | None = None

    @property
    def group(self) -> int | None:
        """Its process group; None where the process is not known or has ended."""
        try:
            return None if self.pid is None else os.getpgid(self.pid)
        except ProcessLookupError:
            return None

    def __str__(self) -> str:
        if self.pid is None:
            return f"another user's process (sudo ss -ltnp 'sport = :{self.port}' names it)"
        return f"{self.name} (pid {self.pid})"


def recorded(path: Path) -> int | None:
    """The pid that a record of `launch` names, if that very process still runs."""
    try:
        record = json.loads(path.read_text())
        pid = int(record["pid"])
        if record["boot"] == boot_id() and start_ticks(pid) == record["start"] and not _has_ended(pid):
            return pid
    except (FileNotFoundError, ProcessLookupError, ValueError, KeyError, TypeError):
        pass  # gone, or no record
    return None


def group_members(pgid: int) -> list[int]:
    """The live processes of a process group."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pid = int(entry.name)
                if os.getpgid(pid) == pgid and not _has_ended(pid):
                    members.append(pid)
    return members


def is_alive(pid: int) -> bool:
    """Whether a process runs; one of which only the exit status is left does not."""
    try:
        return not _has_ended(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False


def _has_ended(pid: int) -> bool:
    """Whether only the process's exit status is left, which nobody has asked for yet."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")


def has_variable(pid: int, name: str, value: str) -> bool:
    """Whether a process was started with an environment variable of that value."""
    try:
        return f"{name}={value}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False


def signal_group(pgid: int, number: signal.Signals) -> None:
    """Send a signal to a process group; to one that is gone, nothing."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pgid, number)


def end_group(pgid: int, grace: float) -> None:
    """End a process group: SIGTERM, and SIGKILL for what is left of it after `grace` seconds."""
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        signal_group(pgid, signal_number)
        deadline = time.monotonic() + grace
        while group_members(pgid) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def listener(port: int, address: str = "127.0.0.1") -> Listener | None:
    """Who keeps us from listening on `address`:`port`; None when nobody does."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except PermissionError:
            raise
        except OSError:
            pid = _owner(_listening_inodes(port))
            return Listener(port, pid, _name(pid) if pid is not None else None)
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    return inodes


def _owner(inodes: set[str]) -> int | None:
    if not inodes:
        return None
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
                for descriptor in (entry / "fd").iterdir():
                    with contextlib.suppress(FileNotFoundError):
                        if str(descriptor.readlink()) in inodes:
                            return int(entry.name)
    return None


def _name(pid: int) -> str:
    """The process as people know it: its program and, for an interpreter, what it runs."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        # The first two arguments; a process that wrote a title over them has none.
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[1:3]
        return " ".join([name, *arguments]).strip()
    except (FileNotFoundError, ProcessLookupError):
        return "a process that has just ended"
