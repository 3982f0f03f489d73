"""Replaces itself with one program of an embedded stack: `python launch.py SPECIFICATION.json`.

supervisord starts every program through this file for two reasons: its configuration then needs no quoting
of command lines and environments, and the recorded pid and start time identify the process if supervisord is
killed. Imports the standard library only and is run by path, to start fast.
"""

import json
import os
import sys
from pathlib import Path


def start_ticks(pid: int) -> int:
    """The start time of a process, in clock ticks since boot.

    Raises FileNotFoundError when the process has ended.
    """
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[19])


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def record(path: Path, pid: int) -> None:
    """Record the process `pid` with its start time and boot, which together identify it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"pid": pid, "start": start_ticks(pid), "boot": boot_id()}))
    temporary.replace(path)


def remove_leftovers(prefix: str) -> None:
    """Remove the files whose paths begin with `prefix`; an empty prefix removes none."""
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
