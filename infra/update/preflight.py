"""Before an update: can every host be reached, does Docker answer, are ports free, is NVIDIA's runtime there.

All hosts are asked at once and none is changed. What cannot be reached is named with the reason and the
remedy.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infra.connection import Connection, RemoteError, typed
from infra.stack import EmbeddedHost, Host, Ssh, SshHost, Stack
from infra.update import ports
from infra.update.ports import Port

SECONDS = 8.0
_CONNECT_SECONDS = 5

# The daemon finds NVIDIA's hook on its own PATH, which need not be ours; a runtime or a CDI device will do
# too.
NVIDIA = r"""
case "$(docker info --format '{{json .Runtimes}}' 2>/dev/null)" in *nvidia*) exit 0;; esac
for pid in $(cat /run/docker.pid /var/run/docker.pid 2>/dev/null); do
  PATH="$PATH:$(tr '\0' '\n' 2>/dev/null </proc/$pid/environ | sed -n 's/^PATH=//p')"
done
PATH="$PATH:/usr/local/bin:/usr/bin:/usr/sbin"
command -v nvidia-container-runtime-hook >/dev/null && exit 0
ls /etc/cdi/*nvidia* /run/cdi/*nvidia* /var/run/cdi/*nvidia* >/dev/null 2>&1 && exit 0
exit 42
"""
_DOCKER = "docker version --format '{{.Server.Version}}' || exit 41"
#: Exit statuses that `explain` takes.
NO_DOCKER, NO_NVIDIA, NO_SSH = 41, 42, 255


@dataclass(frozen=True, slots=True)
class Check:
    """What is asked of one host; `users` are the nodes there, or the gateway, `ports` what they publish.

    `ssh` is how a person reaches it who follows a remedy.
    """

    host: Host
    users: tuple[str, ...]
    docker: bool = True
    gpus: bool = False
    ports: tuple[Port, ...] = ()
    ssh: Ssh | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A host that cannot be updated now. `reachable` tells a host that answers and lacks something."""

    host: Host
    users: tuple[str, ...]
    reason: str
    remedy: str
    reachable: bool

    def __str__(self) -> str:
        return f"{', '.join(self.users)} ({self.host}): {self.reason}\n    {self.remedy}"


def checks(stack: Stack) -> list[Check]:
    """What has to be asked before the stack is updated, once a host."""
    users: dict[Host, list[str]] = {}
    gpus: set[Host] = set()
    docker: set[Host] = set()
    for node in stack.nodes:
        if not node.embedded:
            users.setdefault(node.host, []).append(node.name)
            docker.add(node.host)
            if node.wants_gpus:
                gpus.add(node.host)
    gateway = stack.gateway
    if not isinstance(gateway.host, EmbeddedHost):
        users.setdefault(gateway.host, []).append("gateway")
        if gateway.mode == "container":
            docker.add(gateway.host)
    return [
        Check(host, tuple(names), host in docker, host in gpus, ports.of(stack, host), stack.ssh)
        for host, names in users.items()
    ]


def probe_all(asked: Iterable[Check], ssh: Ssh) -> list[Failure]:
    """The failures among `asked`, in its order."""
    asked = list(asked)
    if not asked:
        return []
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        return [failure for failure in pool.map(lambda check: probe(check, ssh), asked) if failure]


def probe(check: Check, ssh: Ssh) -> Failure | None:
    """Asks one host; None when nothing is amiss."""
    asked = ["true"]
    if check.docker:
        asked += [_DOCKER, "echo --", ports.ASK]
    if check.gpus:
        asked.append(NVIDIA)
    connection = Connection.to(check.host, ssh)
    if isinstance(check.host, SshHost):
        # `ssh` takes the first value that it is given.
        connection = Connection(
            connection.host, ("-o", f"ConnectTimeout={_CONNECT_SECONDS}", *connection.options)
        )
    try:
        done = connection.run("\n".join(asked), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        reason, remedy = (
            f"no answer within {SECONDS:g} s",
            "is the host up, and its network? try: " + _try(check),
        )
        return Failure(check.host, check.users, reason, remedy, reachable=False)
    except RemoteError as error:
        reason, remedy = explain(check, error.status, error.output)
        return Failure(check.host, check.users, reason, remedy, error.status not in (NO_SSH, NO_DOCKER))
    if not check.docker:
        return None
    # A container that the stack keeps may give its port to another one; the order of the update decides that.
    # One that it does not keep ends only when all others are there.
    kept = {port.container for port in check.ports}
    taken = ports.taken(check.ports, done.stdout.partition("--\n")[2], kept)
    if not taken:
        return None
    reasons, remedies = ("; ".join(getattr(each, name) for each in taken) for name in ("reason", "remedy"))
    return Failure(check.host, check.users, reasons, remedies, reachable=True)


def explain(check: Check, status: int, output: str) -> tuple[str, str]:
    """The reason why a host failed and what to do about it, from the exit status and what was printed."""
    said = last_line(output)
    if status == NO_NVIDIA:
        return (
            "Docker there has no NVIDIA runtime, and the node asks for GPUs",
            "install nvidia-container-toolkit on the host and restart Docker, or set gpus: none",
        )
    if status == NO_DOCKER:
        if "not found" in output:
            return "docker is not installed there", "install Docker 20.10 or later on the host"
        if "permission denied" in output.lower():
            return f"Docker refuses this user: {said}", "add the SSH user to the host's docker group"
        return f"Docker does not answer: {said}", "start it on the host: systemctl start docker"
    for words, reason, remedy in _SSH_FAILURES:
        if words in output:
            return reason, f"{remedy}; try: {_try(check)}"
    return f"SSH failed: {said or f'status {status}'}", f"try: {_try(check)}"


_SSH_FAILURES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "SSH: its host key is not the known one",
        "if the host was reinstalled, put its new key into known_hosts (ssh-keygen -R removes the old one)",
    ),
    (
        "Host key verification failed",
        "SSH: its host key is not known",
        "check the key's fingerprint and add it to known_hosts (ssh-keyscan prints it)",
    ),
    (
        "Permission denied",
        "SSH: this computer's key is not accepted",
        "add the public key to authorized_keys there, or name the key in ssh.privateKeyFile",
    ),
    ("Could not resolve hostname", "SSH: its name cannot be resolved", "check the host's name and DNS"),
    ("Connection refused", "SSH: connection refused", "is sshd running there, on that port"),
    ("timed out", "SSH: the connection timed out", "is the host up, and its network"),
    ("No route to host", "SSH: no route to the host", "is the host up, and its network"),
    ("Network is unreachable", "SSH: the network is unreachable", "check this computer's network"),
)


def last_line(output: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")


def _try(check: Check) -> str:
    return typed(check.host, check.ssh or Ssh(), "docker version" if check.docker else "true")


def report(failures: Iterable[Failure]) -> str:
    """All failures as one message."""
    return "\n".join(f"  {failure}" for failure in failures)
