"""Runs commands on a host: through the system's `ssh`, or directly on this computer.

Many steps start at once and import this, so it imports neither Pulumi nor the stack's types.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
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
    return [part for name, value in _ALWAYS.items() for part in ("-o", f"{name}={value}")] + _chosen(ssh)


def _chosen(ssh: Ssh) -> list[str]:
    """The options of the stack."""
    options = []
    if ssh.config_file:
        options += ["-F", ssh.config_file]
    if ssh.known_hosts:
        options += ["-o", f"UserKnownHostsFile={ssh.known_hosts}"]
    if ssh.private_key_file:
        options += ["-i", ssh.private_key_file, "-o", "IdentitiesOnly=yes"]
    if ssh.proxy_jump:
        options += ["-J", ssh.proxy_jump]
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
        done = subprocess.run(
            self.command(script, *arguments), capture_output=True, timeout=timeout, check=False, **given
        )
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
