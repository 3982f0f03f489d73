"""One Docker host: its own namespaces with a dockerd and an sshd, on its own root file system."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.lab.network import Cable
from tests.e2e.lab.prerequisites import find, search_path
from tests.e2e.lab.processes import Process
from tests.e2e.lab.ssh import Operator, make_key

INIT = Path(__file__).with_name("host-init.sh")
CGROUPS = Path("/sys/fs/cgroup")
# Stands in for the NVIDIA container toolkit: dockerd accepts GPU requests if it finds this name on its PATH.
NVIDIA_HOOK = "#!/bin/sh\ncat >/dev/null\n"
SSHD_CONFIG = """\
Port 22
HostKey /etc/lab/ssh_host_ed25519_key
PidFile none
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile /etc/lab/authorized_keys
Subsystem sftp internal-sftp
UseDNS no
PrintMotd no
"""


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 30) -> None:
    """Polls until the condition holds. Raises TimeoutError with `what` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.1)


@dataclass
class Host:
    """A machine of the fleet. With `gpu` its containers may request GPUs; without it Docker refuses with the
    message of a real host that lacks the NVIDIA toolkit. Its files lie in `folder` and survive a power cut.
    """

    name: str
    folder: Path
    cable: Cable
    operator: Operator
    gpu: bool = False
    _unshare: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return str(self.cable.address)

    @property
    def url(self) -> str:
        """The value of `nodes[].host` for this host."""
        return f"ssh://root@{self.address}"

    @property
    def root(self) -> Path:
        """The host's files as this machine sees them, without the overlays on /usr and /etc."""
        return self.folder / "root"

    @property
    def cgroup(self) -> str:
        return self.cable.namespace

    # life

    def prepare(self, docker_data: Path | None = None) -> None:
        """Creates the host's files: its SSH identity and, from `docker_data`, its first images."""
        lab = self.folder / "seed" / "etc" / "lab"
        lab.mkdir(parents=True)
        (lab / "sshd_config").write_text(SSHD_CONFIG)
        (lab / "authorized_keys").write_text(self.operator.public_key + "\n")
        public = make_key(lab / "ssh_host_ed25519_key")
        self.operator.trust(self.address, public)
        if self.gpu:
            self.install("/usr/local/bin/nvidia-container-runtime-hook", NVIDIA_HOOK.encode())
        if docker_data is not None:
            clone_docker_data(docker_data, self.root / "var" / "lib" / "docker")

    def install(self, path: str, content: bytes, mode: int = 0o755) -> None:
        """Puts a file into the host before it starts."""
        target = self.folder / "seed" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)

    def power_on(self) -> None:
        """Starts the host; `wait_ready` returns when Docker answers. Call it from the main thread: the host
        ends with that thread."""
        (self.folder / "root" / "var" / "log").mkdir(parents=True, exist_ok=True)
        with (self.folder / "init.log").open("ab") as log:
            # `ip netns exec` would mount a new /sys without the cgroups, hence nsenter. The pid namespace
            # takes every process of the host along when its first one ends, and setpriv ends it when this
            # process dies.
            self._unshare = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL"),
                    *("nsenter", f"--net=/run/netns/{self.cable.namespace}"),
                    *("unshare", "--mount", "--propagation", "private", "--uts", "--ipc"),
                    *("--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("bash", str(INIT), str(self.folder), self.name, self.cgroup),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": search_path()},
                start_new_session=True,
            )
        started = Process.of(self._unshare.pid)
        if started is not None:
            (self.folder / "process").write_text(f"{started.pid} {started.started}")

    def wait_ready(self, seconds: float = 60) -> None:
        """Waits until Docker answers. Raises RuntimeError with the host's log if its first process has
        ended."""

        def ready() -> bool:
            if self._unshare is None or self._unshare.poll() is not None:
                raise RuntimeError(f"host {self.name} did not start:\n{self.log()}")
            return self._first() is not None and self.docker("info", check=False).returncode == 0

        wait_until(f"Docker answers on {self.name}", ready, seconds)

    def power_off(self) -> None:
        """Cuts the power: every process of the host ends at once, and its disk stays."""
        self._end(signal.SIGKILL)

    def shut_down(self) -> None:
        """Stops Docker and its containers in order, then the host."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._unshare is not None:
            end_host_process(Process.of(self._unshare.pid), number)
            self._unshare.wait()
            self._unshare = None

    def remove(self) -> None:
        """Removes the host and all its files and cgroups on this machine."""
        self.power_off()
        self.cable.remove()
        remove_cgroups(self.cgroup)
        shutil.rmtree(self.folder, ignore_errors=True)

    def cut(self) -> None:
        """Unplugs the network cable."""
        self.cable.cut()

    def restore(self) -> None:
        """Plugs the network cable in again."""
        self.cable.restore()

    # work

    def run(
        self, *command: str, check: bool = True, stdin: bytes | None = None, timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in the host without network and SSH, so it also works while the cable is
        unplugged."""
        first = self._first()
        if first is None:
            raise RuntimeError(f"host {self.name} is off")
        done = subprocess.run(
            [str(find("nsenter")), f"--target={first.pid}", "--all", "--root", "--wd=/", "--", *command],
            input=stdin,
            capture_output=True,
            check=False,
            timeout=timeout,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )
        result = subprocess.CompletedProcess(
            command, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        if check and result.returncode:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: {result.stdout}{result.stderr}")
        return result

    def _first(self) -> Process | None:
        """The host's first process, once it runs on the host's own root file system; tini shows that."""
        running = Process.of(self._unshare.pid) if self._unshare else None
        for child in running.children() if running else []:
            if Path(f"/proc/{child.pid}/comm").read_text().strip() == "tini":
                return child
        return None

    def docker(
        self, *arguments: str, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs the host's own docker client on its daemon."""
        return self.run("docker", *arguments, check=check, stdin=stdin)

    def containers(self, *, everything: bool = False) -> dict[str, str]:
        """Names and ids of the running containers; with `everything`, also of the stopped ones."""
        listed = self.docker(
            "ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}", *(["--all"] if everything else [])
        )
        return dict(line.split() for line in listed.stdout.splitlines())

    def log(self) -> str:
        """The end of the host's own logs."""
        parts = []
        for path in (self.folder / "init.log", *sorted((self.root / "var" / "log").glob("*.log"))):
            with suppress(FileNotFoundError):
                parts.append(
                    f"-- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
                )
        return "\n".join(parts)


def end_host_process(unshare: Process | None, number: signal.Signals) -> None:
    """Ends a host by its recorded `unshare` process. The signal goes to the host's first process, and its end
    removes all other processes and mounts of the host."""
    if unshare is None:
        return
    for first in unshare.children():
        first.send(number)
    if not unshare.wait(20):
        unshare.send(signal.SIGKILL)
        unshare.wait(10)


def remove_cgroups(name: str) -> None:
    """Removes the cgroups of a host's daemon in every hierarchy. They are empty once the host is off."""
    for top in [CGROUPS / name, *CGROUPS.glob(f"*/{name}")]:
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def clone_docker_data(source: Path, target: Path) -> None:
    """Copies a stopped daemon's data folder without copying its layers. A layer never changes once it exists,
    because containers and builds write to new folders, so its files are hard links. Other files are copied.
    """
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        flags = "-al" if entry.name == "overlay2" else "-a"
        subprocess.run(["cp", flags, str(entry), str(target)], check=True)
