"""Tries nodes on hosts that have changed, and takes the traffic from those that are bad."""

import json
import shlex
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from infra.connection import RemoteError
from infra.gateway.pools import TASKS
from infra.node_health import NodeAddress, last_lines
from infra.stack import Rollout
from infra.update.turns import Turns
from infra.update.work import PROBE, does_work, serves

_MARGIN_SECONDS = 20


class Bad(Exception):
    """A node that has changed is bad; `str(error)` has the figures, what was done, and its last log lines."""


@dataclass(frozen=True)
class NodeOnHost:
    """A node on a Docker host, as a worker; its service's container answers."""

    node: NodeAddress
    tasks: Collection[str]

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.node

    def probe(self, asked: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """What `node_probe` prints for the node; None without an answer."""
        try:
            result = self.node.connection.run(
                f"docker exec -i {shlex.quote(self.node.service)} python -c {shlex.quote(PROBE)}",
                stdin=json.dumps(asked).encode(),
                timeout=seconds + _MARGIN_SECONDS,
            )
            return dict(json.loads(result.stdout))
        except (RemoteError, subprocess.TimeoutExpired, ValueError):
            return None

    def restarts(self) -> int | None:
        """How often its containers ended and were started again; None if its host does not answer."""
        containers = " ".join(map(shlex.quote, self.node.containers))
        script = f"docker inspect --format '{{{{.RestartCount}}}}' {containers} 2>/dev/null || :"
        try:
            return sum(map(int, self.node.connection.run(script, timeout=_MARGIN_SECONDS).stdout.split()))
        except (RemoteError, subprocess.TimeoutExpired):
            return None


class Trials:
    """The trials of an update: `nodes` can be reached, and `canaries`, by name, change first."""

    def __init__(
        self,
        nodes: Mapping[str, NodeAddress],
        canaries: frozenset[str],
        rollout: Rollout,
        turns: Turns,
        tasks: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._canaries, self._rollout, self._turns = canaries, rollout, turns
        given = tasks or {}
        self._nodes = {name: NodeOnHost(node, given.get(name, TASKS)) for name, node in nodes.items()}
        self._changed: set[str] = set()

    def hold(self, name: str) -> None:
        """Tries a node that is healthy. A bad one gets no more traffic where others serve. Raises Bad."""
        judge, node = self._rollout.judge, self._nodes[name]
        if judge is None:
            return
        self._changed.add(name)
        other = self._nodes.keys() - self._changed - self._turns.changing
        peers = [self._nodes[each] for each in sorted(other)]
        problems = does_work(node, peers, judge)
        if not problems and name in self._canaries:
            problems = serves(node, peers, judge, self._rollout.soak_seconds)
        if problems:
            raise Bad(self._withdraw(node.node, problems))

    def _withdraw(self, node: NodeAddress, problems: list[str]) -> str:
        """Stops the service of a bad node if others serve; returns the whole message."""
        figures = "".join(f"\n  {problem}" for problem in problems)
        logs = last_lines(node.connection, node.service)
        if self._turns.others_serve(node.node):
            done = "It gets no more traffic: its service was stopped, and other nodes serve."
            try:
                node.connection.run(f"docker stop {shlex.quote(node.service)}", timeout=None)
            except RemoteError as error:
                done = f"Its service could not be stopped: {error}"
        else:
            done = "It keeps its traffic, because no other node serves."
        who = f"node {node.node} ({node.connection.host})"
        return f"{who} is healthy, but its work is bad:{figures}\n{done}\n{logs}"
