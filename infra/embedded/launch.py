"""Becomes one program of an embedded stack: `python launch.py SPECIFICATION.json`.

The supervisor starts every program through this file, so that a command line and an environment need no
quoting in its configuration, and so that the process can be found again by its pid and start time if the
supervisor itself is killed. Uses the standard library only and is run by path, to start at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since the computer did.

    Raises FileNotFoundError when it is gone.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19])


def boot_id() -> str:
    """Which start of the computer this is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def record(path: Path, pid: int) -> None:
    """Write down which process `pid` is."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"pid": pid, "start": start_ticks(pid), "boot": boot_id()}))
    temporary.replace(path)


def remove_leftovers(prefix: str) -> None:
    """Remove the files whose paths begin with `prefix`; none for an empty one."""
    folder, name = os.path.split(prefix)
    for path in Path(folder).glob(f"{name}*") if name else ():
        path.unlink(missing_ok=True)


def main() -> None:
    specification = json.loads(Path(sys.argv[1]).read_text())
    remove_leftovers(specification.get("leftovers", ""))
    record(Path(specification["record"]), os.getpid())
    os.chdir(specification["directory"])
    os.execve(specification["command"][0], specification["command"], specification["environment"])


if __name__ == "__main__":
    main()
