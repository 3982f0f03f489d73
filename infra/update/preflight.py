"""Checks every host before an update: SSH, Docker, free ports, NVIDIA's runtime and the folder of models.

All hosts are checked at the same time and none is changed. A failure has its reason and a remedy.
"""

import shlex
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infra import names
from infra.connection import Connection, RemoteError, open_jump, typed
from infra.stack import EmbeddedHost, Host, Ssh, Stack
from infra.update import ports
from infra.update.ports import Port

SECONDS = 8.0
_CONNECT_SECONDS = 5
# Hosts that are down take seconds each, and all of them must be named soon.
_MOST_AT_ONCE = 64

#: Exits with NO_NVIDIA where Docker cannot pass GPUs on. A runtime, a CDI device or the hook is enough. The
#: daemon looks for the hook on its own PATH, which may differ from the user's.
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
#: Exits with NO_MODELS or EMPTY_MODELS. Docker reads the folder as root; a login that may not look into it
#: learns nothing. A disk that was just formatted has the folder lost+found.
_MODELS = r"""
models=%s
if there=$(LC_ALL=C ls -- "$models/" 2>&1); then
  [ -n "$(printf '%%s\n' "$there" | grep -vx lost+found)" ] || exit 44
else
  case "$there" in *"No such file"*|*"Not a directory"*) exit 43;; esac
fi
"""
#: Exit statuses that `explain` takes.
NO_DOCKER, NO_NVIDIA, NO_MODELS, EMPTY_MODELS, NO_SSH = 41, 42, 43, 44, 255


@dataclass(frozen=True, slots=True)
class HostCheck:
    """What the stack requires of one host.

    `users` are the nodes on it, and the gateway if it is; `ports` are those that they publish. `ssh` is for
    the commands in remedies. `stack` is the stack's name, and `take_over` its `rollout.takeOver`. `models` is
    the folder there that nodes read their models from; empty where they get them in another way.
    """

    host: Host
    users: tuple[str, ...]
    docker: bool = True
    gpus: bool = False
    ports: tuple[Port, ...] = ()
    ssh: Ssh | None = None
    stack: str = ""
    take_over: bool = False
    models: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A host that cannot be updated now. `reachable`: it answers, and something is missing or taken."""

    host: Host
    users: tuple[str, ...]
    reason: str
    remedy: str
    reachable: bool

    def __str__(self) -> str:
        return f"{', '.join(self.users)} ({self.host}): {self.reason}\n    {self.remedy}"


def checks(stack: Stack) -> list[HostCheck]:
    """The checks before an update of the stack, one for each host."""
    users: dict[Host, list[str]] = {}
    gpus: set[Host] = set()
    docker: set[Host] = set()
    models: set[Host] = set()
    for node in stack.nodes:
        if not node.embedded:
            users.setdefault(node.host, []).append(node.name)
            docker.add(node.host)
            if node.wants_gpus:
                gpus.add(node.host)
            if node.runtime != "remote" and stack.models.source == "host":
                models.add(node.host)
    for gateway in stack.gateway.each:
        if not isinstance(gateway.host, EmbeddedHost):
            users.setdefault(gateway.host, []).append(gateway.name)
            if gateway.mode == "container":
                docker.add(gateway.host)
    if (watching := stack.monitoring_host) is not None:
        if watching not in users:
            users[watching] = [names.MONITORING]
        docker.add(watching)
    return [
        HostCheck(
            host,
            tuple(served),
            host in docker,
            host in gpus,
            tuple(ports.published(stack, host)),
            stack.ssh,
            stack.name,
            stack.rollout.take_over,
            stack.models.path if host in models else "",
        )
        for host, served in users.items()
    ]


def probe_all(checks: Iterable[HostCheck], ssh: Ssh) -> list[Failure]:
    """Check all hosts at the same time. Returns the failures in the order of `checks`."""
    checks = list(checks)
    if not checks:
        return []
    open_jump(ssh, SECONDS)
    with ThreadPoolExecutor(max_workers=min(len(checks), _MOST_AT_ONCE)) as pool:
        return [failure for failure in pool.map(lambda check: probe(check, ssh), checks) if failure]


def probe(check: HostCheck, ssh: Ssh) -> Failure | None:
    """Check one host. Returns None when the update can change it."""
    script = ["true"]
    if check.docker:
        script += [_DOCKER, "echo --", ports.SCRIPT]
    if check.gpus:
        script.append(f"({NVIDIA}) || exit {NO_NVIDIA}")
    if check.models:
        script.append(_MODELS % shlex.quote(check.models))
    connection = Connection.to(check.host, ssh).preferring(ConnectTimeout=str(_CONNECT_SECONDS))
    try:
        result = connection.run("\n".join(script), timeout=SECONDS)
    except subprocess.TimeoutExpired:
        reason, remedy = (
            f"no answer within {SECONDS:g} s",
            "check the host and its network; try: " + _try(check),
        )
        return Failure(check.host, check.users, reason, remedy, reachable=False)
    except RemoteError as error:
        reason, remedy = explain(check, error.status, error.output)
        return Failure(check.host, check.users, reason, remedy, error.status not in (NO_SSH, NO_DOCKER))
    if not check.docker:
        return None
    kept = {port.container for port in check.ports}
    output = result.stdout.partition("--\n")[2]
    taken = ports.taken(check.ports, output, check.stack, kept, take_over=check.take_over)
    if not taken:
        return None
    reasons, remedies = ("; ".join(getattr(each, name) for each in taken) for name in ("reason", "remedy"))
    return Failure(check.host, check.users, reasons, remedies, reachable=True)


def explain(check: HostCheck, status: int, output: str) -> tuple[str, str]:
    """The reason why a host failed, and the remedy, from the exit status and the output."""
    line = last_line(output)
    if status == NO_NVIDIA:
        return (
            "Docker there has no NVIDIA runtime, and the node requests GPUs",
            "install nvidia-container-toolkit on the host and restart Docker, or set gpus: none",
        )
    if status in (NO_MODELS, EMPTY_MODELS):
        wrong = "does not exist" if status == NO_MODELS else "is empty"
        return (
            f"the folder of models {check.models} (models.path) {wrong} on the host",
            "put the models there, each in a folder of its own, or set models.path to their folder; or set "
            "models: {source: sync} to copy those of this computer",
        )
    if status == NO_DOCKER:
        if "not found" in output:
            return "docker is not installed on the host", "install Docker 20.10 or later on the host"
        if "permission denied" in output.lower():
            return f"Docker refuses this user: {line}", "add the SSH user to the host's docker group"
        return f"Docker does not answer: {line}", "start it on the host: systemctl start docker"
    for message, reason, remedy in _SSH_FAILURES:
        if message in output:
            return reason, f"{remedy}; try: {_try(check)}"
    return f"SSH failed: {line or f'status {status}'}", f"try: {_try(check)}"


#: Part of ssh's message, the reason and the remedy.
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
        "add the public key to authorized_keys on the host, or name the key in ssh.privateKeyFile",
    ),
    ("Could not resolve hostname", "SSH: its name cannot be resolved", "check the host's name and DNS"),
    ("Connection refused", "SSH: connection refused", "check that sshd is running on the host, on that port"),
    ("timed out", "SSH: the connection timed out", "check that the host is up, and its network"),
    ("No route to host", "SSH: no route to the host", "check that the host is up, and its network"),
    ("Network is unreachable", "SSH: the network is unreachable", "check this computer's network"),
)


def last_line(output: str) -> str:
    """The last line that is not blank."""
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")


def _try(check: HostCheck) -> str:
    return typed(check.host, check.ssh or Ssh(), "docker version" if check.docker else "true")


def report(failures: Iterable[Failure]) -> str:
    """All failures as one message."""
    return "\n".join(f"  {failure}" for failure in failures)
