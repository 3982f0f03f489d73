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
from infra.update.moves import Moves
from infra.update.turns import Turns

_SECONDS = 60
_ANSWER_SECONDS = 3
_POLL_SECONDS = 1.0
#: Gives an image a second name, so that no clean-up of old versions deletes it. Deletes the image that had
#: this name before, if it has no other one.
_KEEP_IMAGE = """
old=$(docker image inspect --format '{{.Id}}' "$2" 2>/dev/null)
docker tag "$1" "$2" || exit
names=$(docker image inspect --format '{{len .RepoTags}} {{len .RepoDigests}}' "$old" 2>/dev/null)
[ "$names" != '0 0' ] || docker rmi "$old" >&2 || :
"""
#: Gives an image its first name again, where a clean-up removed that.
_NAME_AGAIN = 'docker image inspect "$1" >/dev/null 2>&1 || docker tag "$2" "$1"'


@dataclass(frozen=True)
class Before:
    """What a node ran: its containers as `docker inspect` describes them, oldest first, the archive of its
    service's settings file (empty if it has none), and its models' versions."""

    containers: list[dict[str, Any]]
    settings: bytes
    models: dict[str, str]


class WayBack:
    """The way back of an update.

    `models` are the folders of nodes to which models are copied, and `switch` switches a node, by name, to
    versions of its models. `moves` start again what was stopped where nodes went. A node may take `patience`
    seconds to become healthy.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeAddress],
        models: Mapping[str, str],
        switch: Callable[[str, dict[str, str]], None],
        turns: Turns,
        moves: Moves,
        patience: float,
    ) -> None:
        self._nodes, self._models, self._switch, self._turns = nodes, models, switch, turns
        self._moves = moves
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
        # The settings of a container with a read-only root are in its environment.
        script = f"docker cp {shlex.quote(node.service)}:{names.SETTINGS_FILE} - 2>/dev/null | base64"
        settings = base64.b64decode(node.connection.run(script, timeout=_SECONDS).stdout)
        for each in described:
            node.connection.run(_KEEP_IMAGE, each["Image"], _kept(each), timeout=_SECONDS)
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
                changed = dict.fromkeys([*self._before, *self._moves.cleared])
                order = sorted(changed, key=lambda name: name not in self._failed)
                lines = []
                for name in order:
                    lines.append(self._put_back(name))
                    # It serves again, or is asked and does not answer.
                    self._turns.finish(name)
                self._done = "\n".join(lines) or "no node served before its change"
            return self._done

    def _put_back(self, name: str) -> str:
        node = self._nodes[name]
        if problem(node, _ANSWER_SECONDS) is None and not self._turns.others_serve(name):
            return f"node {name} keeps the change, because no other node serves while it goes back"
        try:
            if name not in self._before:
                known = " ".join(map(shlex.quote, node.containers))
                node.connection.run(f"docker stop {known} 2>/dev/null || :", timeout=None)
                return self._given_back(name)
            self._run_again(node, self._before[name])
            places = self._given_back(name) if name in self._moves.cleared else ""
        except (RemoteError, subprocess.TimeoutExpired) as error:
            return f"node {name} could not be put back: {error}"
        reason = problem(node, self._patience)
        if reason is not None:
            return f"node {name} runs what was deployed before, and is not healthy: {reason}"
        return "\n".join(filter(None, [f"node {name} runs again what was deployed before", places]))

    def _given_back(self, name: str) -> str:
        """Starts what stood where a node went; returns what runs there now."""
        said = []
        for standing in self._moves.give_back(name):
            reason = None if standing.node is None else problem(standing.node, self._patience)
            healthy = "" if reason is None else f", and is not healthy: {reason}"
            said.append(f"node {name} does not run; {standing} runs again{healthy}")
        return "\n".join(said)

    def _run_again(self, node: NodeAddress, before: Before) -> None:
        known = " ".join(map(shlex.quote, node.containers))
        service = shlex.quote(node.service)
        for described in before.containers:
            image = described["Config"]["Image"]
            node.connection.run(_NAME_AGAIN, image, _kept(described), timeout=_SECONDS)
        node.connection.run(
            f"docker stop {service} 2>/dev/null; docker rm --force --volumes {known} 2>/dev/null || :",
            timeout=None,
        )
        if before.models != self._versions(node.node):
            self._switch(node.node, before.models)
        mark = {names.ROLLED_BACK_LABEL: time.strftime("%Y-%m-%d %H:%M:%S")}
        for described in before.containers:
            made = create_again(node.connection, described, mark)
            if described["Name"] == f"/{node.service}" and before.settings:
                unpack(node.connection, made, names.SETTINGS_FILE.rpartition("/")[0], before.settings)
            node.connection.run(f"docker start {made}", timeout=_SECONDS)

    def _versions(self, name: str) -> dict[str, str]:
        """The versions of the models that a node serves, by model."""
        root = self._models.get(name)
        if root is None:
            return {}
        script = f'cd "$1"/{names.REPOSITORY} 2>/dev/null && for model in *; do readlink "$model"; done || :'
        links = self._nodes[name].connection.run(script, root, timeout=_SECONDS).stdout.split()
        copies = [link.rpartition("/")[2].rpartition("-") for link in links]
        return {model: version for model, _, version in copies}


def _kept(described: dict[str, Any]) -> str:
    """The second name of a container's image, which the container's node keeps until its next change."""
    # A tag has at most 128 characters.
    return f"{names.KEPT_IMAGES}:of-{described['Name'].removeprefix('/')[-120:]}"
