"""A fleet of hosts on one bridge, and the removal of the leftovers of killed runs."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.lab.host import Host, end_host_process, remove_cgroups
from tests.e2e.lab.network import Bridge, Cable, free_subnet, ip
from tests.e2e.lab.processes import Process
from tests.e2e.lab.ssh import Operator

# Not /tmp, which may be a tmpfs: the daemons' overlay2 storage needs a real file system.
PARENT = Path("/var/tmp")
PREFIX = "gpu-fleet-e2e-"


class Fleet:
    """Hosts by name, their network and their operator's SSH files. All of it lies in one folder that is
    removed with the fleet."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
        # Interface names have at most 15 characters: one or two letters and four random characters.
        self.mark = f"e{secrets.token_hex(2)}"
        self.hosts: dict[str, Host] = {}
        self.operator = Operator(self.folder / "operator")
        owner = Process.of(os.getpid())
        assert owner is not None
        self._record = {"mark": self.mark, "owner": [owner.pid, owner.started]}
        (self.folder / "run.json").write_text(json.dumps(self._record))
        self.bridge = Bridge(f"{self.mark}br", free_subnet())
        self.bridge.up()
        self.operator.prepare()

    def add(self, name: str, *, gpu: bool = False, docker_data: Path | None = None) -> Host:
        """Creates a host and starts it. Its `wait_ready` returns when Docker answers."""
        number = 10 + len(self.hosts)
        cable = Cable(f"{self.mark}-{name}", f"{self.mark}v{number}", self.bridge.subnet[number], self.bridge)
        host = Host(name, self.folder / name, cable, self.operator, gpu)
        self.hosts[name] = host
        cable.plug_in()
        host.prepare(docker_data)
        return host

    def remove(self) -> None:
        """Removes every host and the network. Safe to call again."""
        for host in self.hosts.values():
            host.remove()
        self.hosts.clear()
        self.bridge.down()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def running_fleet() -> Iterator[Fleet]:
    """Yields a fleet without hosts and removes it at the end, also on SIGINT, SIGTERM and SIGHUP, which
    become KeyboardInterrupt. `clean` removes the leftovers after a SIGKILL."""

    def interrupt(number: int, _frame: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    fleet = Fleet()
    try:
        yield fleet
    finally:
        # From here on no signal may interrupt the removal.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        fleet.remove()
        for number, handler in before.items():
            signal.signal(number, handler)


def clean(*, running_too: bool = False) -> list[str]:
    """Removes the fleets of earlier runs whose process is gone; with `running_too`, also those of running
    ones.

    Returns the folders that it removed. It touches only resources that such a run recorded as its own.
    """
    removed = []
    for folder in sorted(PARENT.glob(f"{PREFIX}*")):
        try:
            record = json.loads((folder / "run.json").read_text())
            mark, owner = str(record["mark"]), Process(*record["owner"])
        except (FileNotFoundError, ValueError):
            continue
        if owner.alive() and not running_too:
            continue
        for recorded in folder.glob("*/process"):
            pid, started = map(int, recorded.read_text().split())
            end_host_process(Process(pid, started), signal.SIGKILL)
        for namespace in [line.split()[0] for line in ip("netns", "list").splitlines() if line.split()]:
            if namespace.startswith(f"{mark}-"):
                ip("netns", "del", namespace, check=False)
                remove_cgroups(namespace)
        for link in json.loads(ip("-j", "link") or "[]"):
            if link["ifname"] == f"{mark}br" or link["ifname"].startswith(f"{mark}v"):
                ip("link", "del", link["ifname"], check=False)
        shutil.rmtree(folder, ignore_errors=True)
        removed.append(str(folder))
    return removed
