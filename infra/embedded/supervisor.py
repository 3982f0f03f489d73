"""The supervisord of one embedded stack, which keeps the stack's processes running.

It starts with the first program and ends with the last. Programs stand in files of their own, so that each
can be added, changed and removed alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import pwd
import shlex
import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from infra.embedded import launch, processes
from infra.embedded.layout import Layout

#: Set in every process, with the stack's folder as its value: how its children are known when it is gone.
MARK = "GPU_INFERENCE_STATE"

_START_SECONDS = 15
_STOP_SECONDS = 7200  # the supervisor itself kills what takes longer than its own `stop_seconds`
_POLL_SECONDS = 0.05
_SUPERVISOR = "supervisord"  # its own record among the programs'


class SupervisorError(Exception):
    """The supervisor cannot do what it was asked; `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running.

    `environment` is all of its environment. `revision` stands for what it reads at its start: a program with
    another revision is restarted. `stop_seconds` is how long it may take to end after `stop_signal`.
    `leftovers` is how the paths of the files begin that it leaves behind when it is killed: they are removed
    before it starts and when it is removed.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    revision: str
    stop_seconds: int
    stop_signal: str = "TERM"
    leftovers: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """A program as the supervisor sees it.

    `name` is its state (RUNNING, BACKOFF, …), `started` the Unix time of its last start.
    """

    name: str
    pid: int
    started: int
    detail: str

    @property
    def given_up(self) -> bool:
        """Whether nobody tries to run it any more."""
        return self.name in ("FATAL", "STOPPED", "EXITED", "UNKNOWN")


class Supervisor:
    """The supervisord of the stack whose files `layout` names; nothing is started by making one of these."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def programs(self) -> list[str]:
        """The names of the declared programs."""
        return sorted(path.stem for path in self.layout.programs.glob("*.conf"))

    def running(self) -> bool:
        """Whether the supervisor answers."""
        try:
            self._call("getState")
        except (OSError, http.client.HTTPException):
            return False
        return True

    @property
    def pid(self) -> int | None:
        """The supervisor's own process, None when there is none."""
        return processes.recorded(self._record(_SUPERVISOR))

    def is_declared(self, name: str) -> bool:
        """Whether a program of that name is kept running."""
        return (self.layout.programs / f"{name}.conf").exists()

    def apply(self, programs: Sequence[Program]) -> list[str]:
        """Keep these programs running as declared; those that already do are left alone.

        Changed ones stop in reverse order and start in order. Returns the names of those (re)started.
        """
        with self._locked():
            for program in programs:
                self._write(program)
            names = [program.name for program in programs]
            if not self.running():
                self._start()
                return names
            added, changed, _removed = self._call("reloadConfig")[0]
            restarted = [name for name in names if name in changed]
            for name in reversed(restarted):
                self._stop_group(name)
            started = []
            for name in names:
                if name in added or name in restarted:
                    self._call("addProcessGroup", name)
                    started.append(name)
                elif self.state(name).given_up:
                    self._call("startProcess", name, False)
                    started.append(name)
            return started

    def remove(self, *batches: Sequence[str]) -> list[str]:
        """Stop these programs and forget them: those of a batch together, one batch after the other.

        Returns those that were there. The supervisor ends with its last program.
        """
        with self._locked():
            removed = []
            running = self.running()
            for batch in batches:
                there = [name for name in batch if self.is_declared(name)]
                for name in there if running else ():
                    self._ignoring_unknown("stopProcessGroup", name, False)
                for name in there:
                    if running:
                        self._stop_group(name)
                    specification = json.loads(self._specification(name).read_text())
                    for path in (self._conf(name), self._specification(name)):
                        path.unlink(missing_ok=True)
                    self._end_leftover(name)
                    launch.remove_leftovers(specification.get("leftovers", ""))
                removed += there
            if not self.programs:
                self._shut_down()
            return removed

    def state(self, name: str) -> State:
        """What the supervisor knows of a program. Raises SupervisorError when it knows none of that name."""
        try:
            info = self._call("getProcessInfo", name)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(f"{name}: {fault.faultString}") from None
        return State(info["statename"], info["pid"], info["start"], info["spawnerr"] or info["description"])

    def signal(self, name: str, signal_name: str) -> None:
        """Send a signal to a program's process."""
        self._call("signalProcess", name, signal_name)

    def last_lines(self, name: str, count: int = 20) -> str:
        """The end of a program's log."""
        try:
            with self.layout.log(name).open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 64 * 1024))
                return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return "(no log)"

    def own_pids(self) -> set[int]:
        """The leaders of the process groups that this stack started."""
        records = self.layout.pids.glob("*.json")
        return {pid for record in records if (pid := processes.recorded(record)) is not None}

    # What it is made of ---------------------------------------------------------------------------------

    def _call(self, method: str, *arguments: Any) -> Any:
        # The address is not used: the transport connects to the socket.
        transport = SupervisorTransport(None, None, f"unix://{self.layout.supervisor_socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change at a time, whichever process makes it."""
        self.layout.create()
        with (self.layout.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _conf(self, name: str) -> Path:
        return self.layout.programs / f"{name}.conf"

    def _specification(self, name: str) -> Path:
        return self.layout.programs / f"{name}.json"

    def _record(self, name: str) -> Path:
        return self.layout.pids / f"{name}.json"

    def _files(self, program: Program) -> tuple[str, str]:
        """The text of a program's launch and of its part of the supervisor's configuration."""
        specification = json.dumps(
            {
                "command": list(program.command),
                "environment": {**program.environment, MARK: str(self.layout.root)},
                "directory": str(program.directory),
                "record": str(self._record(program.name)),
                "leftovers": program.leftovers,
                "revision": program.revision,
            },
            indent=1,
            sort_keys=True,
        )
        command = [sys.executable, "-I", "-S", launch.__file__, str(self._specification(program.name))]
        # The digest is there for the supervisor to see that what it would launch has changed.
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
            "stdout_logfile": str(self.layout.log(program.name)),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "2",
        }
        return specification, _ini(f"program:{program.name}", settings)

    def _write(self, program: Program) -> None:
        specification, conf = self._files(program)
        write_private(self._specification(program.name), specification)
        write_private(self._conf(program.name), conf)

    def _start(self) -> None:
        """Start the supervisor, which starts every declared program."""
        self._end_leftovers()
        settings = {
            "logfile": str(self.layout.log(_SUPERVISOR)),
            "logfile_maxbytes": "1MB",
            "logfile_backups": "1",
            "pidfile": str(self.layout.root / "supervisord.pid"),
            "directory": str(self.layout.root),
            "umask": "077",
            # Triton and nginx open many connections; what they may is raised as far as the user may.
            "minfds": "1024",
        }
        if os.geteuid() == 0:
            settings["user"] = pwd.getpwuid(0).pw_name
        socket_settings = {"file": str(self.layout.supervisor_socket), "chmod": "0700"}
        interface = "supervisor.rpcinterface:make_main_rpcinterface"
        conf = (
            _ini("supervisord", settings)
            + _ini("unix_http_server", socket_settings)
            + _ini("rpcinterface:supervisor", {"supervisor.rpcinterface_factory": interface})
            + _ini("include", {"files": f"{self.layout.programs.name}/*.conf"})
        )
        write_private(self.layout.supervisor_conf, conf)
        with _interrupted_afterwards():  # one that is half started answers nobody and would be left behind
            daemon = subprocess.run(
                [sys.executable, "-m", "supervisor.supervisord", "-c", self.layout.supervisor_conf],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
            deadline = time.monotonic() + _START_SECONDS
            while not self.running():
                if daemon.returncode or time.monotonic() > deadline:
                    raise SupervisorError(
                        f"supervisord did not start:\n{daemon.stdout}{self.last_lines(_SUPERVISOR)}"
                    )
                time.sleep(_POLL_SECONDS)
            launch.record(self._record(_SUPERVISOR), self._call("getPID"))

    def _shut_down(self) -> None:
        if self.running():
            self._call("shutdown")
        pid = self.pid
        deadline = time.monotonic() + _START_SECONDS
        while pid is not None and self.pid == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        self._end_leftovers()
        for path in (self.layout.supervisor_conf, self.layout.supervisor_socket):
            path.unlink(missing_ok=True)

    def _stop_group(self, name: str) -> None:
        """Stop a program and take it out of the supervisor. One it does not know is left alone."""
        deadline = time.monotonic() + _STOP_SECONDS
        self._ignoring_unknown("stopProcessGroup", name)
        while not self._ignoring_unknown("removeProcessGroup", name):
            if time.monotonic() > deadline:
                raise SupervisorError(f"{name} does not stop")
            time.sleep(_POLL_SECONDS)

    def _ignoring_unknown(self, method: str, *arguments: Any) -> bool:
        """Call what a program that the supervisor does not know has no need of; False while it still runs."""
        try:
            self._call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultString.startswith("STILL_RUNNING"):
                return False
            if not fault.faultString.startswith("BAD_NAME"):
                raise
        return True

    def _end_leftovers(self) -> None:
        """End a supervisor that does not answer, so that it restarts nothing, and what one left running."""
        self._end_leftover(_SUPERVISOR)
        names = [record.stem for record in self.layout.pids.glob("*.json")]
        for group in filter(None, map(self._leftover, names)):
            processes.signal_group(group, signal.SIGTERM)  # all at once; each is waited for below
        for name in names:
            self._end_leftover(name)

    def _end_leftover(self, name: str) -> None:
        group = self._leftover(name)
        if group is not None:
            processes.end_group(group, grace=10)
        self._record(name).unlink(missing_ok=True)

    def _leftover(self, name: str) -> int | None:
        """The process group of a program that still runs, also when its leader has died."""
        record = self._record(name)
        try:
            pid = int(json.loads(record.read_text())["pid"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        # A leader that died leaves its group behind: that is ours if its members carry our mark.
        if processes.recorded(record) is not None or any(
            processes.has_variable(member, MARK, str(self.layout.root))
            for member in processes.group_members(pid)
        ):
            return pid
        return None


@contextlib.contextmanager
def _interrupted_afterwards() -> Iterator[None]:
    """What is done here is finished before a Ctrl-C interrupts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def write_private(path: Path, text: str) -> bool:
    """Replace a file of the owner's alone, atomically; returns whether its text is another now."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return False
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.touch(mode=0o600, exist_ok=False)
    temporary.write_text(text)
    temporary.replace(path)
    return True


def _ini(section: str, settings: Mapping[str, str]) -> str:
    """A section as supervisord reads it: `%` begins an expansion there."""
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in settings.items()]
    return f"[{section}]\n" + "\n".join(lines) + "\n\n"
