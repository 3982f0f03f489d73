"""Puts back what nodes ran before an update that failed: their containers, settings and model versions.

What a node runs is kept in memory, from before its first change until the update ends.
"""

import base64
import json
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from infra import names
from infra.connection import RemoteError
from infra.docker_engine import create_again, unpack
from infra.node_health import NodeAddress, problem
from infra.update.turns import Turns

_SECONDS = 60
_ANSWER_SECONDS = 3
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Before:
    """What a node ran: its containers as `docker inspect` describes them, oldest first, the archive of its
    service's settings, and its models' versions."""

    containers: list[dict[str, Any]]
    settings: bytes
    models: dict[str, str]


class WayBack:
    """The way back of an update.

    `models` are the folders of nodes to which models are copied, and `switch` switches a node, by name, to
    versions of its models. A node may take `patience` seconds to become healthy.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeAddress],
        models: Mapping[str, str],
        switch: Callable[[str, dict[str, str]], None],
        turns: Turns,
        patience: float,
    ) -> None:
        self._nodes, self._models, self._switch, self._turns = nodes, models, switch, turns
        self._patience = patience
        self._before: dict[str, Before] = {}
        self._failed: set[str] = set()
        self._busy = threading.Lock()
        self._done: str | None = None

    def remember(self, name: str) -> None:
        """Keeps what a node runs, before its first change. A node that does not serve has no way back."""
        if name in self._before or name not in self._nodes:
            return
        node = self._nodes[name]
        if problem(node, _ANSWER_SECONDS) is not None:
            return
        containers = " ".join(map(shlex.quote, node.containers))
        described = json.loads(
            node.connection.run(f"docker inspect {containers} 2>/dev/null || :", timeout=_SECONDS).stdout
            or "[]"
        )
        if not any(each["Name"] == f"/{node.service}" for each in described):
            return
        script = f"docker cp {shlex.quote(node.service)}:{names.SETTINGS_FILE} - | base64"
        settings = base64.b64decode(node.connection.run(script, timeout=_SECONDS).stdout)
        described.sort(key=lambda each: str(each["Created"]))
        self._before[name] = Before(described, settings, self._versions(name))

    def undo(self, failed: str) -> str:
        """Puts back what the changed nodes ran; returns what runs now, as sentences, one a line.

        It waits until the nodes that change at the same time have changed or failed. The first call does it
        for all.
        """
        self._failed.add(failed)
        with self._busy:
            if self._done is None:
                end = time.monotonic() + self._patience
                while self._turns.changing - self._failed and time.monotonic() < end:
                    time.sleep(_POLL_SECONDS)
                # The node that failed serves least.
                order = sorted(self._before, key=lambda name: name not in self._failed)
                lines = [self._put_back(name) for name in order]
                self._done = "\n".join(lines) or "no node served before its change"
            return self._done

    def _put_back(self, name: str) -> str:
        node, before = self._nodes[name], self._before[name]
        if problem(node, _ANSWER_SECONDS) is None and not self._turns.others_serve(name):
            return f"node {name} keeps the change, because no other node serves while it goes back"
        try:
            known = " ".join(map(shlex.quote, node.containers))
            service = shlex.quote(node.service)
            node.connection.run(
                f"docker stop {service} 2>/dev/null; docker rm --force --volumes {known} 2>/dev/null || :",
                timeout=None,
            )
            if before.models != self._versions(name):
                self._switch(name, before.models)
            mark = {names.ROLLED_BACK_LABEL: time.strftime("%Y-%m-%d %H:%M:%S")}
            for described in before.containers:
                made = create_again(node.connection, described, mark)
                if described["Name"] == f"/{node.service}":
                    unpack(node.connection, made, names.SETTINGS_FILE.rpartition("/")[0], before.settings)
                node.connection.run(f"docker start {made}", timeout=_SECONDS)
        except (RemoteError, subprocess.TimeoutExpired) as error:
            return f"node {name} could not be put back: {error}"
        reason = problem(node, self._patience)
        if reason is not None:
            return f"node {name} runs what was deployed before, and is not healthy: {reason}"
        return f"node {name} runs again what was deployed before"

    def _versions(self, name: str) -> dict[str, str]:
        """The versions of the models that a node serves, by model."""
        root = self._models.get(name)
        if root is None:
            return {}
        script = f'cd "$1"/{names.REPOSITORY} 2>/dev/null && for model in *; do readlink "$model"; done || :'
        links = self._nodes[name].connection.run(script, root, timeout=_SECONDS).stdout.split()
        copies = [link.rpartition("/")[2].rpartition("-") for link in links]
        return {model: version for model, _, version in copies}
