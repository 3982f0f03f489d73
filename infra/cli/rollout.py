"""How far a rollout is, from Pulumi's event log while it is written."""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.kubernetes import gates

#: The resource that is there when a node has changed and does its work: on a host, and in a cluster.
_TRIED = ("-tried", f"{gates.SUFFIX}-configmap")
#: The resource with which a node's change begins.
_BEGINS = ("-turn", "-deployment")
_LOOK_SECONDS = 0.5


class Rollout:
    """The nodes that change, and those that have changed, by the events of an update.

    An update without a preview does not tell how many nodes change: then `nodes` is the most that can.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._planned: set[str] = set()
        self._done: list[float] = []  # when each node had changed
        self._began: float | None = None

    def line(self, event: dict[str, Any]) -> str | None:
        """What to tell a person after this event; None where it says nothing of a node."""
        outputs = event.get("resOutputsEvent")
        before = event.get("resourcePreEvent")
        told = outputs or before
        if told is None or told["metadata"]["op"] not in (
            "create",
            "update",
            "replace",
            "create-replacement",
        ):
            return None
        now, planning = float(event["timestamp"]), bool(told.get("planning"))
        name = told["metadata"]["urn"].rpartition("::")[2].partition("@")[0]
        node = next((name.removesuffix(each) for each in _TRIED if name.endswith(each)), name)
        if not planning and before is not None and self._began is None and name.endswith(_BEGINS):
            self._began = now
        if outputs is None or node == name:
            return None
        if planning:
            self._planned.add(node)
            return None
        self._done.append(now)
        return f"node {node} has changed and does its work{self._left(now)}"

    def _left(self, now: float) -> str:
        count, most = len(self._done), len(self._planned) or self._nodes
        if count >= most:
            return f" ({count} of {count})"
        seconds = "" if self._began is None else _about((now - self._began) / count * (most - count))
        return f" ({count} of {'' if self._planned else 'at most '}{most}{seconds})"


def _about(seconds: float) -> str:
    return f", about {seconds:.0f} s left" if seconds < 100 else f", about {seconds / 60:.0f} min left"


def follow(log: Path, nodes: int, ended: threading.Event, tell: Callable[[str], None]) -> None:
    """Reads the log until the update has ended, and tells each line of the rollout."""
    rollout, rest, position = Rollout(nodes), "", 0
    while True:
        last = ended.wait(_LOOK_SECONDS)
        if log.exists():
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(position)
                rest += file.read()
                position = file.tell()
            *whole, rest = rest.split("\n")
            for each in whole:
                if each.endswith("}") and (line := rollout.line(json.loads(each))) is not None:
                    tell(line)
        if last:
            return


def tell(line: str) -> None:
    """Prints a line for a log; on a terminal, which is Pulumi's meanwhile, it is the window's title."""
    if sys.stderr.isatty():
        print(f"\x1b]0;{line}\x07", end="", file=sys.stderr, flush=True)
    else:
        print(f"fleet: {line}", file=sys.stderr, flush=True)
