"""The files of an embedded stack, all under one folder."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from infra.paths import PROJECT

STATE = PROJECT / ".state"

# The kernel takes 107 bytes for the path of a Unix socket.
_SOCKET_BYTES = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of one stack under `root`, an absolute path."""

    root: Path

    @classmethod
    def for_stack(cls, stack: str, state: Path = STATE) -> Self:
        """The files of the stack of that name under the folder of all stacks' states."""
        return cls(state.absolute() / stack)

    def make(self, target: str) -> str:
        """The make command for this stack; `dev` is make's default stack."""
        return f"make {target}" if self.root.name == "dev" else f"make {target} STACK={self.root.name}"

    @property
    def logs(self) -> Path:
        """The folder with the log of every process."""
        return self.root / "logs"

    @property
    def programs(self) -> Path:
        """Each program's section of supervisord's configuration (`.conf`) and its specification (`.json`)."""
        return self.root / "programs"

    @property
    def pids(self) -> Path:
        """The processes that `launch` recorded, by which orphaned ones are identified."""
        return self.root / "pids"

    def program_conf(self, program: str) -> Path:
        """The program's section of supervisord's configuration."""
        return self.programs / f"{program}.conf"

    def specification(self, program: str) -> Path:
        """The command line and environment that `launch` starts as this program."""
        return self.programs / f"{program}.json"

    def record(self, program: str) -> Path:
        """The program's last process, as `launch` recorded it."""
        return self.pids / f"{program}.json"

    @property
    def supervisor_conf(self) -> Path:
        return self.root / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        return self.socket("supervisor")

    def socket(self, name: str) -> Path:
        """A socket: in the stack's folder, or in the temporary folder if that path is too long."""
        path = self.root / f"{name}.sock"
        if len(bytes(path)) <= _SOCKET_BYTES:
            return path
        digest = hashlib.sha256(bytes(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"gpu-inference-{digest}.sock"

    @property
    def console(self) -> Path:
        """The console's settings."""
        return self.root / "console.json"

    def node(self, name: str) -> Path:
        """A node's folder: its service's settings and the files that its workers share."""
        return self.root / "nodes" / name

    @property
    def gateway(self) -> Path:
        """The gateway's nginx: its configuration and its temporary files."""
        return self.root / "gateway"

    def log(self, program: str) -> Path:
        return self.logs / f"{program}.log"

    def create(self) -> None:
        """Create the folders, readable by their owner only because they hold secrets."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self.logs, self.programs, self.pids):
            folder.mkdir(mode=0o700, exist_ok=True)
