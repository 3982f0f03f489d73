"""Tries nodes that have changed: each must do its work, and a canary must serve for a while."""

import base64
import io
import json
import shlex
import subprocess
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import soundfile

from infra import node_probe
from infra.connection import RemoteError
from infra.gateway.pools import TASKS
from infra.node_health import URL, NodeAddress, last_lines
from infra.paths import RECORDING
from infra.stack import Judge, Rollout
from infra.update.judgement import together, total, traffic, traffic_problems, work_problems
from infra.update.turns import Turns

#: Runs in the service's container, which has Python but not this project.
_PROBE = Path(node_probe.__file__).read_text(encoding="utf-8")
_BASE = URL.removesuffix("/api/v1/ai/health")
_TIMES = 2
_PEERS = 2
_SPOKEN_SECONDS = 4
_TASKS = 3
#: How long a node without requests is watched.
_QUIET_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_MOST_SILENT = 3
_MARGIN_SECONDS = 20
_MOST_AT_ONCE = 16


class Bad(Exception):
    """A node that has changed is bad; `str(error)` has the figures, what was done, and its last log lines."""


def speech() -> str:
    """Four seconds of the recording as a WAV file, in base64."""
    rate = soundfile.info(RECORDING).samplerate
    samples, _ = soundfile.read(RECORDING, dtype="int16", frames=_SPOKEN_SECONDS * rate)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()


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
        self._nodes, self._canaries, self._rollout, self._turns = nodes, canaries, rollout, turns
        self._tasks = tasks or {}
        self._changed: set[str] = set()

    def hold(self, name: str) -> None:
        """Tries a node that is healthy. A bad one gets no more traffic where others serve. Raises Bad."""
        judge, node = self._rollout.judge, self._nodes[name]
        if judge is None:
            return
        self._changed.add(name)
        other = self._nodes.keys() - self._changed - self._turns.changing
        peers = [self._nodes[each] for each in sorted(other)]
        problems = self._work(node, peers, judge)
        if not problems and name in self._canaries:
            problems = self._soak(node, peers, judge)
        if problems:
            raise Bad(self._withdraw(node, problems))

    def _work(self, node: NodeAddress, peers: list[NodeAddress], judge: Judge) -> list[str]:
        problems: list[str] = []
        # The first request to a fresh model is slow, and a busy node may refuse one: so bad is bad twice.
        for times in (1, _TIMES):
            asked = {"url": _BASE, "audio": speech(), "times": times, "seconds": judge.seconds}
            # One that serves is enough, and several are asked because one may not.
            both = _each([node, *self._like(node, peers)], asked, _TASKS * times * judge.seconds)
            if (mine := both.pop(node.node, None)) is None:
                problems = ["its service cannot be asked: its container does not answer"]
            else:
                problems = work_problems(mine, together(both.values()), judge, self._of(node))
            if not problems:
                break
        return problems

    def _of(self, node: NodeAddress) -> Collection[str]:
        return self._tasks.get(node.node, TASKS)

    def _like(self, node: NodeAddress, peers: list[NodeAddress]) -> list[NodeAddress]:
        """The peers that are asked too: some for each task of the node."""
        serving = [[peer for peer in peers if task in self._of(peer)][:_PEERS] for task in self._of(node)]
        return list({peer.node: peer for some in serving for peer in some}.values())

    def _soak(self, node: NodeAddress, peers: list[NodeAddress], judge: Judge) -> list[str]:
        """Compares the requests of a node with those of others for a while; ends early when it is bad."""
        end = time.monotonic() + self._rollout.soak_seconds
        quiet = time.monotonic() + _QUIET_SECONDS
        restarts = _restarts(node)
        first = _look([node, *peers])
        silent = 0
        while (now := time.monotonic()) < end:
            time.sleep(min(_LOOK_SECONDS, end - now))
            now_restarts = _restarts(node)
            restarts = now_restarts if restarts is None else restarts
            if now_restarts is not None and restarts is not None and now_restarts > restarts:
                return [f"its containers ended {now_restarts - restarts} times while it served"]
            seen = {name: look for name, look in _look([node, *peers]).items() if name in first}
            silent = 0 if node.node in seen else silent + 1
            if silent == _MOST_SILENT:
                return [f"its metrics did not answer {silent} times in a row"]
            counts = {name: traffic(first[name], look) for name, look in seen.items()}
            mine = counts.pop(node.node, {})
            if problems := traffic_problems(mine, total(list(counts.values())), judge):
                return problems
            if not mine and not any(counts.values()) and time.monotonic() > quiet:
                break
        return []

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


def _look(nodes: list[NodeAddress]) -> dict[str, dict[str, Any]]:
    """The counted requests of the nodes that answer, by name."""
    return _each(nodes, {"url": _BASE}, 0)


def _each(nodes: list[NodeAddress], asked: Mapping[str, Any], seconds: float) -> dict[str, dict[str, Any]]:
    """What the nodes that answer say, by name; all are asked at the same time."""
    with ThreadPoolExecutor(max_workers=min(len(nodes), _MOST_AT_ONCE)) as pool:
        found = zip(nodes, pool.map(lambda node: _probe(node, asked, seconds), nodes), strict=True)
        return {node.node: answer for node, answer in found if answer is not None}


def _restarts(node: NodeAddress) -> int | None:
    """How often the containers of a node ended and were started again; None if its host does not answer."""
    containers = " ".join(map(shlex.quote, node.containers))
    script = f"docker inspect --format '{{{{.RestartCount}}}}' {containers} 2>/dev/null || :"
    try:
        return sum(map(int, node.connection.run(script, timeout=_MARGIN_SECONDS).stdout.split()))
    except (RemoteError, subprocess.TimeoutExpired):
        return None


def _probe(node: NodeAddress, asked: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
    """What `node_probe` prints for a node; None without an answer."""
    try:
        result = node.connection.run(
            f"docker exec -i {shlex.quote(node.service)} python -c {shlex.quote(_PROBE)}",
            stdin=json.dumps(asked).encode(),
            timeout=seconds + _MARGIN_SECONDS,
        )
        return dict(json.loads(result.stdout))
    except (RemoteError, subprocess.TimeoutExpired, ValueError):
        return None
