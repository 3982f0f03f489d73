"""Where an embedded stack keeps its files: everything of one stack is under one folder."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from infra.paths import PROJECT

STATE = PROJECT / ".state"

# The kernel takes 107 bytes for the path of a Unix socket.
_SOCKET_BYTES = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one stack under `root`, an absolute path."""

    root: Path

    @classmethod
    def of(cls, stack: str, state: Path = STATE) -> Layout:
        """The files of the stack of that name under the folder of all stacks' states."""
        return cls(state.absolute() / stack)

    def make(self, target: str) -> str:
        """The command that a person types for this stack, which is dev unless it is named."""
        return f"make {target}" if self.root.name == "dev" else f"make {target} STACK={self.root.name}"

    @property
    def logs(self) -> Path:
        """The one folder with every process's log."""
        return self.root / "logs"

    @property
    def programs(self) -> Path:
        """A program's part of the supervisor's configuration (`.conf`) and its launch (`.json`)."""
        return self.root / "programs"

    @property
    def pids(self) -> Path:
        """What `launch` records of each process, so that one that was left behind can be found."""
        return self.root / "pids"

    def program_conf(self, program: str) -> Path:
        """The program's section of the supervisor's configuration."""
        return self.programs / f"{program}.conf"

    def specification(self, program: str) -> Path:
        """What `launch` starts as this program."""
        return self.programs / f"{program}.json"

    def record(self, program: str) -> Path:
        """Which process the program last was."""
        return self.pids / f"{program}.json"

    @property
    def supervisor_conf(self) -> Path:
        return self.root / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """In the stack's folder, or under the system's temporary folder where that path is too long."""
        path = self.root / "supervisor.sock"
        if len(bytes(path)) <= _SOCKET_BYTES:
            return path
        digest = hashlib.sha256(bytes(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"gpu-inference-{digest}.sock"

    def node(self, name: str) -> Path:
        """A node's own folder: its service's settings and what its workers share."""
        return self.root / "nodes" / name

    @property
    def gateway(self) -> Path:
        """The gateway's nginx: its configuration and its temporary files."""
        return self.root / "gateway"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def create(self) -> None:
        """Make the folders. They hold secrets, so they are for their owner alone."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.logs, self.programs, self.pids):
            folder.mkdir(mode=0o700, exist_ok=True)
