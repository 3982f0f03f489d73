"""Processes by identity: a pid together with its start time, so that a reused pid is never mistaken for
ours."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process that was running when `of` read it. `started` is its start time in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The running process with this pid. None if there is none or it is a zombie."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] == "Z" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        return Process.of(self.pid) == self

    def children(self) -> list[Process]:
        """The direct children."""
        listed: list[Process] = []
        for tasks in Path(f"/proc/{self.pid}/task").glob("*/children"):
            listed += [child for child in map(Process.of, map(int, tasks.read_text().split())) if child]
        return listed

    def send(self, number: signal.Signals) -> None:
        """Sends a signal if the pid still belongs to the same process."""
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Waits for its end. Returns False if it still runs after that time."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True
