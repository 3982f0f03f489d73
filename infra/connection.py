"""Runs commands on a host: through the system's `ssh`, or directly on this computer.

Many steps start at once and import this, so it imports neither Pulumi nor the stack's types.
"""

from __future__ import annotations

import contextlib
import random
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.paths import here

if TYPE_CHECKING:
    from infra.stack import Host, Ssh

# As `infra.stack.hosts` writes it.
_SSH = re.compile(r"ssh://(?P<user>[^@]+@)?(?:\[(?P<v6>.+)\]|(?P<name>[^:]+))(?::(?P<port>\d+))?")

# ssh always checks host keys and never asks. It notices within a minute that a host is cut off.
_ALWAYS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "10",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
}


# An sshd with too many connections that are not logged in yet drops new ones (MaxStartups); so does a jump
# host's. Nothing has run on the host then, so the call may be repeated.
_DROPPED = re.compile(
    r"kex_exchange_identification|banner exchange|Connection (closed|reset) by \S+ port|"
    r"stdio forwarding failed"
)
# The jump host was reached, and the host behind it was not.
_NO_DROP = re.compile(r"open failed: connect failed|administratively prohibited")
_DROPPED_TRIES = 6

#: A jump host's one connection for all calls; it ends by itself after so many idle seconds.
_JUMP_PERSISTS = 120
#: The same for every user, because the options are in the state. ssh expands `~` and `%C`.
_JUMP_SOCKET = "~/.ssh/gpu-inference-%C"


class RemoteError(Exception):
    """A command on a host failed; `str(error)` has the host and the command's output."""

    def __init__(self, host: str, status: int, output: str) -> None:
        super().__init__(f"{host}: {output.strip() or f'ended with status {status}'}")
        self.status = status
        self.output = output


def portable(ssh: Ssh) -> Ssh:
    """The SSH settings with paths relative to the working directory of the program and the providers."""
    paths = {
        name: here(path)
        for name in ("known_hosts", "private_key_file", "config_file")
        if (path := getattr(ssh, name)) is not None
    }
    return ssh.model_copy(update=paths)


def ssh_options(ssh: Ssh) -> list[str]:
    """The options of every `ssh` call: the fixed ones, and those of the stack."""
    options = [part for name, value in _ALWAYS.items() for part in ("-o", f"{name}={value}")] + _own(ssh)
    if ssh.proxy_jump:
        # `ssh -J` would log in to the jump host for each call. ProxyCommand expands `%`.
        jump = [*_jump(ssh), "-W"]
        options += ["-o", f"ProxyCommand={shlex.join(jump).replace('%', '%%')} '[%h]:%p'"]
    return options


def open_jump(ssh: Ssh, seconds: float) -> None:
    """Opens the one connection to the jump host, if there is one: calls that start at the same time would
    each open one. A failure is left to those calls, which say what is wrong."""
    if (master := jump_master(ssh)) is not None:
        Path("~/.ssh").expanduser().mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                master, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
            )


def jump_master(ssh: Ssh) -> list[str] | None:
    """The command line that opens the connection to the jump host unless it is open; None without one."""
    if not ssh.proxy_jump:
        return None
    master, *options, destination = _jump(ssh)
    call = shlex.join([master, *options])
    return ["sh", "-c", f"{call} -O check {destination} 2>/dev/null || {call} -f -N {destination}"]


def _jump(ssh: Ssh) -> list[str]:
    """The call of ssh for the last jump host, through those before it, and through one connection for all."""
    *before, last = (ssh.proxy_jump or "").split(",")
    match = _SSH.fullmatch(last if last.startswith("ssh://") else f"ssh://{last}")
    always = [part for name, value in _ALWAYS.items() for part in ("-o", f"{name}={value}")]
    shared = {"ControlMaster": "auto", "ControlPath": _JUMP_SOCKET, "ControlPersist": str(_JUMP_PERSISTS)}
    options = [*always, *(part for name, value in shared.items() for part in ("-o", f"{name}={value}"))]
    # As `ssh -J` does: the jump host's key and user are those of the SSH configuration.
    if ssh.config_file:
        options += ["-F", ssh.config_file]
    if before:
        options += ["-J", ",".join(before)]
    return ["ssh", *options, *(_destination(match) if match else [last])]


def _chosen(ssh: Ssh) -> list[str]:
    """The options of the stack, as a person types them."""
    return _own(ssh) + (["-J", ssh.proxy_jump] if ssh.proxy_jump else [])


def _own(ssh: Ssh) -> list[str]:
    """The options of the stack, without its jump hosts."""
    options = []
    if ssh.config_file:
        options += ["-F", ssh.config_file]
    if ssh.known_hosts:
        options += ["-o", f"UserKnownHostsFile={ssh.known_hosts}"]
    if ssh.private_key_file:
        options += ["-i", ssh.private_key_file, "-o", "IdentitiesOnly=yes"]
    return options


def typed(host: Host, ssh: Ssh, command: str) -> str:
    """The command line for a person who runs a command on a host, with the stack's SSH settings."""
    if match := _SSH.fullmatch(str(host)):
        return shlex.join(["ssh", *_chosen(ssh), *_destination(match), command])
    return f"DOCKER_HOST={host} {command}" if str(host).startswith("unix://") else command


def _destination(match: re.Match[str]) -> list[str]:
    """The port option and the destination for `ssh`."""
    port = ["-p", match["port"]] if match["port"] else []
    return [*port, f"{match['user'] or ''}{match['v6'] or match['name']}"]


def _dropped(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Whether an sshd on the way dropped the connection before anything ran."""
    said = done.stderr.decode(errors="replace")
    return done.returncode == 255 and bool(_DROPPED.search(said)) and not _NO_DROP.search(said)


@dataclass(frozen=True, slots=True)
class Connection:
    """The way to one host: its address as in the stack file, and the options of `ssh`."""

    host: str
    options: tuple[str, ...] = ()

    @classmethod
    def to(cls, host: Host, ssh: Ssh) -> Connection:
        """The connection to a host with the stack's SSH settings."""
        text = str(host)
        return cls(text, tuple(ssh_options(ssh)) if text.startswith("ssh://") else ())

    def preferring(self, **options: str) -> Connection:
        """The same way with options of `ssh` that count before those of the stack; itself without `ssh`."""
        if not self.options:
            return self
        # `ssh` uses the first value of an option.
        first = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return Connection(self.host, (*first, *self.options))

    def command(self, script: str, *arguments: str) -> list[str]:
        """The command line that runs a shell script on the host; `arguments` are its $1, $2 and so on.

        A name from outside the project belongs into `arguments`: text in the script is run as shell code.
        """
        if arguments:
            # ssh has no arguments, only one text for the remote shell.
            script = shlex.join(["sh", "-c", script, "sh", *arguments])
        if match := _SSH.fullmatch(self.host):
            return ["ssh", "-T", *self.options, *_destination(match), "--", script]
        if self.host.startswith("unix://"):
            return ["env", f"DOCKER_HOST={self.host}", "sh", "-c", script]
        return ["sh", "-c", script]

    def run(
        self,
        script: str,
        *arguments: str,
        stdin: bytes | None = None,
        timeout: float | None = None,
        allowed: Sequence[int] = (0,),
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell script on the host with its arguments ($1, $2 and so on) and its standard input.

        Raises RemoteError for an exit status that is not `allowed`, subprocess.TimeoutExpired after `timeout`
        seconds.
        """
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        end = None if timeout is None else time.monotonic() + timeout
        for tries in range(_DROPPED_TRIES):
            left = None if end is None else max(end - time.monotonic(), 0.1)
            done = subprocess.run(
                self.command(script, *arguments), capture_output=True, timeout=left, check=False, **given
            )
            if not (self.options and _dropped(done)):
                break
            time.sleep(min(random.uniform(0.2, 1.0) * (tries + 1), 2.0 if left is None else left))
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if done.returncode not in allowed:
            raise RemoteError(self.host, done.returncode, err + out)
        return subprocess.CompletedProcess(done.args, done.returncode, out, err)

    def remove_folder(self, folder: str) -> None:
        """Removes a folder, and the folders above it that become empty. Raises RemoteError."""
        # `rmdir` fails at a folder that somebody linked to a larger disk; that is no error.
        self.run('rm -rf -- "$1" && { rmdir -p -- "$(dirname -- "$1")" 2>/dev/null || :; }', folder)


#: The connection to this computer.
HERE = Connection("embedded")
