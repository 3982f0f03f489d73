"""What `nvidia-smi` says of the GPUs."""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import dataclass
from types import TracebackType

_FIELDS = "index,name,memory.used,memory.total,utilization.gpu"


@dataclass(frozen=True)
class Gpu:
    """A GPU at a moment. Memory in MiB, `busy` in percent of the last second."""

    index: int
    name: str
    used: int
    total: int
    busy: int


def present() -> bool:
    """Whether this computer has NVIDIA's driver."""
    return shutil.which("nvidia-smi") is not None


def gpus() -> list[Gpu]:
    """The GPUs of this computer. Raises `RuntimeError` with the words of `nvidia-smi` where it fails."""
    command = ["nvidia-smi", f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvidia-smi failed: {(done.stdout + done.stderr).strip()}")
    return parse(done.stdout)


def parse(table: str) -> list[Gpu]:
    """The GPUs in the table of `nvidia-smi`, one a line."""
    found = []
    for line in filter(None, map(str.strip, table.splitlines())):
        index, name, used, total, busy = (field.strip() for field in line.split(","))
        found.append(Gpu(int(index), name, int(used), int(total), int(busy)))
    return found


class Watch:
    """Asks for the GPUs twice a second while the `with` block runs, and keeps the most of memory and use."""

    def __init__(self) -> None:
        self.most: dict[int, Gpu] = {gpu.index: gpu for gpu in gpus()}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.5):
            for now in gpus():
                most = self.most[now.index]
                self.most[now.index] = Gpu(
                    now.index, now.name, max(most.used, now.used), now.total, max(most.busy, now.busy)
                )
