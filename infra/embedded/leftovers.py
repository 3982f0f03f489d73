"""Orphaned processes of an embedded stack: found by their records, and ended."""

import json
import signal

from infra.embedded import processes
from infra.embedded.layout import Layout
from infra.embedded.program import MARK

#: supervisord's own record among the programs'.
SUPERVISOR = "supervisord"


def end_all(layout: Layout) -> None:
    """End a supervisord that does not answer, so that it restarts nothing, then every orphaned program."""
    end(layout, SUPERVISOR)
    names = [record.stem for record in layout.pids.glob("*.json")]
    for name in names:
        group = _group(layout, name)
        if group is not None:
            processes.signal_group(group, signal.SIGTERM)  # all at once; the loop below waits for each
    for name in names:
        end(layout, name)


def end(layout: Layout, name: str) -> None:
    """End the process group of a program that supervisord no longer watches, and forget its record."""
    group = _group(layout, name)
    if group is not None:
        processes.end_group(group, grace=10)
    layout.record(name).unlink(missing_ok=True)


def _group(layout: Layout, name: str) -> int | None:
    """The process group of a program that still runs, even if its leader has died; else None."""
    record = layout.record(name)
    try:
        pid = int(json.loads(record.read_text())["pid"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    # A leader that died leaves its group behind. The group is ours if a member carries our mark.
    if processes.recorded(record) is not None or any(
        processes.has_variable(member, MARK, str(layout.root)) for member in processes.group_members(pid)
    ):
        return pid
    return None
