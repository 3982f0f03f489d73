"""Decides, during an update, when a node may be taken down: enough others must serve at that moment."""

import shlex
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from infra.connection import Connection, RemoteError
from infra.node_health import NodeAddress, problems
from infra.stack import Rollout

_ANSWER_SECONDS = 3
#: How long nodes may take to answer again. A node that is changing has `rollout.readyTimeoutSeconds`.
_PATIENCE_SECONDS = 15.0
_POLL_SECONDS = 1.0


class NotEnough(Exception):
    """A node must not be taken down; `str(error)` says who does not answer, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """The file with the servers that the gateway's nginx reads."""

    connection: Connection
    file: str

    def nodes(self) -> set[str]:
        """The names of the nodes that get traffic. Raises RemoteError and subprocess.TimeoutExpired."""
        file = shlex.quote(self.file)
        script = f"[ ! -e {file} ] || grep -E 'server .*; # ' {file} || :"
        lines = self.connection.run(script, timeout=_ANSWER_SECONDS + 10).stdout.splitlines()
        return {line.rpartition("# ")[2] for line in lines if " down; # " not in line}


@dataclass(frozen=True, slots=True)
class Entrances:
    """The gateways of the stack whose hosts can be reached."""

    each: tuple[Entrance, ...]

    def nodes(self) -> set[str]:
        """The names of the nodes that get traffic from any gateway.

        Raises RemoteError and subprocess.TimeoutExpired where no gateway's file can be read.
        """
        found: list[set[str]] = []
        errors: list[RemoteError | subprocess.TimeoutExpired] = []
        for entrance in self.each:
            try:
                found.append(entrance.nodes())
            except (RemoteError, subprocess.TimeoutExpired) as error:
                errors.append(error)
        if errors and not found:
            raise errors[0]
        return set().union(*found)


class Turns:
    """The turns of the nodes that get traffic by the stack file.

    `nodes` can be reached; `away` cannot. Nodes that the gateway does not send traffic to yet, because they
    are new, do not count; where its file cannot be read, every node counts.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeAddress],
        away: frozenset[str],
        rollout: Rollout,
        entrance: Entrance | Entrances | None,
    ) -> None:
        self._nodes, self._away, self._rollout, self._entrance = nodes, away, rollout, entrance
        self._changing: set[str] = set()
        # Two nodes of a batch must not each count on the other.
        self._deciding = threading.Lock()

    @property
    def lone(self) -> bool:
        """Whether no two nodes get traffic."""
        return len(self._nodes) + len(self._away) < 2

    def take(self, node: str) -> bool:
        """Waits until the node may be taken down. Returns whether no other node serves meanwhile.

        Raises NotEnough.
        """
        if node not in self._nodes:
            return False
        began = time.monotonic()
        while True:
            with self._deciding:
                behind = self._behind()
                reasons = self._silent(behind | {node})
                others = behind - {node}
                answering = others - reasons.keys()
                if node not in behind or node in reasons:
                    self._changing.add(node)
                    return False  # It serves nobody now.
                needed = self._rollout.needed(len(behind))
                if len(answering) >= needed:
                    self._changing.add(node)
                    return not answering
                patience = self._rollout.ready_timeout_seconds if self._changing & others else 0
            if time.monotonic() - began > max(patience, _PATIENCE_SECONDS):
                raise NotEnough(
                    _message(node, needed, len(answering), {n: reasons[n] for n in others & reasons.keys()})
                )
            time.sleep(_POLL_SECONDS)

    @property
    def changing(self) -> set[str]:
        """The nodes that may be down now, because they are changing."""
        return set(self._changing)

    def others_serve(self, node: str) -> bool:
        """Whether another node serves now."""
        others = self._behind() - {node}
        return bool(others - self._silent(others).keys())

    def finish(self, node: str) -> None:
        """The node has changed and serves again."""
        self._changing.discard(node)

    def _behind(self) -> set[str]:
        """The nodes of the stack that the gateway sends traffic to."""
        everyone = self._nodes.keys() | self._away
        if self._entrance is None:
            return everyone
        try:
            return everyone & self._entrance.nodes()
        except (RemoteError, subprocess.TimeoutExpired):
            return everyone

    def _silent(self, asked: set[str]) -> dict[str, str]:
        """The nodes that do not serve, with the reasons."""
        reasons = dict.fromkeys(asked & self._away, "its host cannot be reached")
        reasons |= dict.fromkeys(asked & self._changing, "it is changing")
        return reasons | problems(
            (self._nodes[name] for name in sorted(asked - reasons.keys())), _ANSWER_SECONDS
        )


def _message(node: str, needed: int, answering: int, reasons: Mapping[str, str]) -> str:
    silent = "".join(f"\n  {name}: {reason}" for name, reason in sorted(reasons.items()))
    return (
        f"node {node} stays as it is: {answering} other nodes serve, and rollout.minHealthy requires "
        f"{needed}. These do not:{silent}\n"
        "  `pulumi up` changes nodes that do not serve first. rollout.minHealthy: 0 accepts the gap."
    )
