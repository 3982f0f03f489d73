"""The supervisord of one embedded stack, which keeps the stack's processes running.

supervisord starts with the first program and ends with the last. Each program has files of its own, so that
it can be added, changed and removed without the others.
"""

import contextlib
import fcntl
import http.client
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]

from infra.embedded import launch, leftovers, processes
from infra.embedded.layout import Layout
from infra.embedded.leftovers import SUPERVISOR
from infra.embedded.program import Program, ini, program_files, write_private

_START_SECONDS = 15
_STOP_SECONDS = 7200  # supervisord kills a program sooner: after the program's own `stop_seconds`
_POLL_SECONDS = 0.05


class SupervisorError(Exception):
    """supervisord refused or failed a command; `str(error)` gives its reason."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of a program in supervisord.

    `name` is the state (RUNNING, BACKOFF, …), `started` the Unix time of its last start.
    """

    name: str
    pid: int
    started: int
    detail: str

    @property
    def given_up(self) -> bool:
        """Whether supervisord has stopped trying to run the program."""
        return self.name in ("FATAL", "STOPPED", "EXITED", "UNKNOWN")


class Supervisor:
    """The supervisord of one stack. Creating this object starts no process."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def programs(self) -> list[str]:
        """The names of the declared programs."""
        return sorted(path.stem for path in self.layout.programs.glob("*.conf"))

    def running(self) -> bool:
        """Whether supervisord answers on its socket."""
        try:
            self._call("getState")
        except (OSError, http.client.HTTPException):
            return False
        return True

    @property
    def pid(self) -> int | None:
        """The process id of supervisord; None while it does not run."""
        return processes.recorded(self.layout.record(SUPERVISOR))

    def is_declared(self, name: str) -> bool:
        """Whether supervisord has to keep a program of this name running."""
        return self.layout.program_conf(name).exists()

    def apply(self, programs: Sequence[Program]) -> list[str]:
        """Start the programs that do not run as declared, and keep all of them running.

        Changed programs stop in reverse order and start in order. Returns the names of the programs that were
        started or restarted.
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
        """Stop and forget the programs of each batch together, one batch after the other.

        Returns the names of the programs that were declared. supervisord ends with its last program.
        """
        with self._locked():
            removed = []
            running = self.running()
            for batch in batches:
                known = [name for name in batch if self.is_declared(name)]
                for name in known if running else ():
                    self._ignoring_unknown("stopProcessGroup", name, False)
                for name in known:
                    if running:
                        self._stop_group(name)
                    specification = json.loads(self.layout.specification(name).read_text())
                    for path in (self.layout.program_conf(name), self.layout.specification(name)):
                        path.unlink(missing_ok=True)
                    leftovers.end(self.layout, name)
                    launch.remove_leftovers(specification.get("leftovers", ""))
                removed += known
            if not self.programs:
                self._shut_down()
            return removed

    def state(self, name: str) -> State:
        """The state of a program. Raises SupervisorError when supervisord does not know the name."""
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
        """The process ids of the group leaders that this stack started."""
        records = self.layout.pids.glob("*.json")
        return {pid for record in records if (pid := processes.recorded(record)) is not None}

    # Internals ----------------------------------------------------------------------------------------

    def _call(self, method: str, *arguments: Any) -> Any:
        # ServerProxy requires an address; the transport ignores it and connects to the socket.
        transport = SupervisorTransport(None, None, f"unix://{self.layout.supervisor_socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the stack's lock, so that one process at a time changes its programs."""
        self.layout.create()
        with (self.layout.root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, program: Program) -> None:
        specification, conf = program_files(self.layout, program)
        write_private(self.layout.specification(program.name), specification)
        write_private(self.layout.program_conf(program.name), conf)

    def _start(self) -> None:
        """Start supervisord, which starts every declared program."""
        leftovers.end_all(self.layout)
        settings = {
            "logfile": str(self.layout.log(SUPERVISOR)),
            "logfile_maxbytes": "1MB",
            "logfile_backups": "1",
            "pidfile": str(self.layout.root / "supervisord.pid"),
            "directory": str(self.layout.root),
            "umask": "077",
            # Triton and nginx open many connections: supervisord raises its soft limit to the hard one.
            "minfds": "1024",
        }
        if os.geteuid() == 0:
            settings["user"] = pwd.getpwuid(0).pw_name
        socket_settings = {"file": str(self.layout.supervisor_socket), "chmod": "0700"}
        interface = "supervisor.rpcinterface:make_main_rpcinterface"
        conf = (
            ini("supervisord", settings)
            + ini("unix_http_server", socket_settings)
            + ini("rpcinterface:supervisor", {"supervisor.rpcinterface_factory": interface})
            + ini("include", {"files": f"{self.layout.programs.name}/*.conf"})
        )
        write_private(self.layout.supervisor_conf, conf)
        with _interrupts_deferred():  # a half-started supervisord answers no command and would be orphaned
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
                        f"supervisord did not start:\n{daemon.stdout}{self.last_lines(SUPERVISOR)}"
                    )
                time.sleep(_POLL_SECONDS)
            launch.record(self.layout.record(SUPERVISOR), self._call("getPID"))

    def _shut_down(self) -> None:
        if self.running():
            self._call("shutdown")
        pid = self.pid
        deadline = time.monotonic() + _START_SECONDS
        while pid is not None and self.pid == pid:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(_POLL_SECONDS)
        leftovers.end_all(self.layout)
        for path in (self.layout.supervisor_conf, self.layout.supervisor_socket):
            path.unlink(missing_ok=True)

    def _stop_group(self, name: str) -> None:
        """Stop a program and remove it from supervisord, if supervisord knows it."""
        deadline = time.monotonic() + _STOP_SECONDS
        self._ignoring_unknown("stopProcessGroup", name)
        while not self._ignoring_unknown("removeProcessGroup", name):
            if time.monotonic() > deadline:
                raise SupervisorError(f"{name} did not stop within {_STOP_SECONDS} s")
            time.sleep(_POLL_SECONDS)

    def _ignoring_unknown(self, method: str, *arguments: Any) -> bool:
        """Call a method; an unknown program is no error. Returns False while the program runs."""
        try:
            self._call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultString.startswith("STILL_RUNNING"):
                return False
            if not fault.faultString.startswith("BAD_NAME"):
                raise
        return True


@contextlib.contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Finish the block first; a Ctrl-C during it raises KeyboardInterrupt at its end."""
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
