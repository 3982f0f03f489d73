"""Frees the places that nodes go to: of nodes of the stack that leave or change later, and of the original
service. What stands there is stopped in the turn of the node that comes, and started again if that fails.
"""

import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from infra import names, node_health
from infra.connection import Connection, RemoteError
from infra.node_health import NodeAddress
from infra.stack import Host, Node, Ssh, Stack
from infra.stack.hosts import machine_of
from infra.update import listing, ports, state
from infra.update.listing import Listed

_SECONDS = 30
_MOST_AT_ONCE = 32
# The original service's own time to end is not known.
_ORIGINAL_STOP_SECONDS = 60
# The arguments: the port of its HTTP, seconds, and its containers. Fails if one does not run, or if its
# health route does not answer 200, where the host has a program that asks.
_ORIGINAL_SERVES = """
url="http://127.0.0.1:$1/health" seconds=$2
shift 2
for id; do
    [ "$(docker inspect --format '{{.State.Running}}' "$id")" = true ] || exit
done
if command -v curl; then curl -sf -m "$seconds" "$url"
elif command -v wget; then wget -qT "$seconds" -O - "$url"
fi
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """The containers, by id, that stand where a node goes, the first that was created first.

    `node` is the node of the stack that they belong to; None: they are the original service's `http`.
    """

    connection: Connection
    ids: tuple[str, ...]
    names: tuple[str, ...]
    node: NodeAddress | None
    http: int = 0

    def __str__(self) -> str:
        return f"{', '.join(self.names)} ({self.connection.host})"


class Moves:
    """What stands on the hosts of a stack at its first change.

    `deployment` is the name of Pulumi's stack, and `ssh` the settings that fit the working directory.
    """

    def __init__(self, stack: Stack, ssh: Ssh, deployment: str, away: frozenset[Host] = frozenset()) -> None:
        self._stack, self._ssh, self._deployment, self._away = stack, ssh, deployment, away
        self._leaving: dict[str, list[NodeAddress]] = {}
        self._standing: dict[str, list[Standing]] = {}
        self._elsewhere: dict[str, NodeAddress] | None = None
        self._policies: dict[str, str] = {}
        self._cleared: dict[str, list[Standing]] = {}
        self._looked = False
        self._looking = threading.Lock()

    def leaving(self, node: str) -> Sequence[NodeAddress]:
        """The places that a node of this name leaves, on hosts that the stack still has or has left."""
        self._look()
        return self._leaving.get(node, ())

    def left(self, node: str) -> NodeAddress | None:
        """The place of a node on a host that the stack does not have any more, by Pulumi's state."""
        with self._looking:
            if self._elsewhere is None:
                self._elsewhere = dict(self._recorded())
            return self._elsewhere.get(node)

    def takers(self, place: NodeAddress) -> Iterator[str]:
        """The nodes that go where another one stands."""
        self._look()
        for node, standing in self._standing.items():
            if any(each.node == place for each in standing):
                yield node

    def original(self, node: str) -> Standing | None:
        """The original service on the host of a node that takes it over."""
        self._look()
        return next((each for each in self._standing.get(node, ()) if each.node is None), None)

    def standing(self, node: str) -> list[Standing]:
        """What still stands where the node goes. Raises RemoteError and subprocess.TimeoutExpired."""
        self._look()
        found = self._standing.get(node, [])
        if not found:
            return []
        running = set(
            found[0].connection.run("docker ps --quiet --no-trunc", timeout=_SECONDS).stdout.split()
        )
        return [each for each in found if running & set(each.ids)]

    def clear(self, node: str) -> list[Standing]:
        """Stops what stands where the node goes; returns it. Raises RemoteError and TimeoutExpired."""
        standing = self.standing(node)
        for each in standing:
            self._cleared.setdefault(node, []).append(each)
            ids = " ".join(each.ids)
            if each.node is None:
                # Docker would start them again with the host.
                form = "{{.Id}} {{.HostConfig.RestartPolicy.Name}}"
                told = each.connection.run(f"docker inspect --format '{form}' {ids}", timeout=_SECONDS)
                self._policies |= dict(line.split(maxsplit=1) for line in told.stdout.splitlines())
                each.connection.run(f"docker update --restart no {ids}", timeout=_SECONDS)
            seconds = f"--time {_ORIGINAL_STOP_SECONDS} " if each.node is None else ""
            # The service finishes its requests before the runtime ends.
            for identity in reversed(each.ids):
                each.connection.run(f"docker stop {seconds}{identity}", timeout=None)
        return standing

    @property
    def cleared(self) -> Sequence[str]:
        """The nodes for which something was stopped."""
        return list(self._cleared)

    def give_back(self, node: str) -> list[Standing]:
        """Starts again what was stopped for a node; returns it. Raises RemoteError and TimeoutExpired."""
        cleared = self._cleared.pop(node, [])
        for each in cleared:
            for identity in each.ids:
                if policy := self._policies.get(identity):
                    each.connection.run(f"docker update --restart {policy} {identity}", timeout=_SECONDS)
                each.connection.run(f"docker start {identity}", timeout=_SECONDS)
        return cleared

    def _look(self) -> None:
        with self._looking:
            if self._looked:
                return
            hosts = {node.host for node in self._stack.nodes if not node.embedded} - self._away
            with ThreadPoolExecutor(max_workers=max(1, min(len(hosts), _MOST_AT_ONCE))) as pool:
                for host, containers in zip(hosts, pool.map(self._listed, hosts), strict=True):
                    self._sort(host, containers)
            self._looked = True

    def _listed(self, host: Host) -> list[Listed]:
        """The containers on a host; none where it does not answer, which the change of its nodes reports."""
        connection = Connection.to(host, self._ssh)
        try:
            return listing.listed(connection.run(listing.SCRIPT, timeout=_SECONDS).stdout)
        except (RemoteError, subprocess.TimeoutExpired):
            return []

    def _sort(self, host: Host, containers: list[Listed]) -> None:
        stack = self._stack
        here = {node.name: node for node in stack.nodes if machine_of(node.host) == machine_of(host)}
        own = [each for each in containers if each.stack == stack.name and each.node]
        for name in dict.fromkeys(each.node for each in own):
            if name not in here:
                self._leaving.setdefault(name, []).append(self._place(name, Connection.to(host, self._ssh)))
        wanted = [port for port in ports.published(stack, host) if port.node]
        for node in here.values():
            holders = [
                each
                for each in containers
                if any(port.node == node.name and port.held_by(each) for port in wanted)
                and each.name not in {names.container(stack, node, part) for part in names.NODE_PARTS}
            ]
            found = [
                *self._nodes_at(host, own, holders, here),
                *self._originals_at(node, containers, holders),
            ]
            if found:
                self._standing[node.name] = found

    def _nodes_at(
        self, host: Host, own: list[Listed], holders: list[Listed], here: Mapping[str, Node]
    ) -> Iterator[Standing]:
        connection = Connection.to(host, self._ssh)
        for name in dict.fromkeys(each.node for each in holders if each in own):
            if name in here:
                # It changes its ports in a turn of its own.
                stopped = [each for each in holders if each.node == name]
                address = node_health.address(self._stack, here[name], self._ssh)
            else:
                stopped = [each for each in own if each.node == name and each.running]
                address = self._place(name, connection)
            yield Standing(connection, _ids(stopped), tuple(each.name for each in stopped), address)

    def _originals_at(
        self, node: Node, containers: list[Listed], holders: list[Listed]
    ) -> Iterator[Standing]:
        if not self._stack.rollout.take_over:
            return
        for project in dict.fromkeys(each.original for each in holders if each.original is not None):
            stopped = [each for each in containers if each.original == project and each.running]
            yield Standing(
                Connection.to(node.host, self._ssh),
                _ids(stopped),
                tuple(each.name for each in stopped),
                None,
                node.ports.http,
            )

    def _place(self, name: str, connection: Connection) -> NodeAddress:
        containers = tuple(names.former_container(self._stack, name, part) for part in names.NODE_PARTS)
        return NodeAddress(f"{name} on {connection.host}", connection, containers[0], containers)

    def _recorded(self) -> Iterator[tuple[str, NodeAddress]]:
        try:
            resources = state.export(self._deployment).get("resources", [])
        except state.StateError:
            return
        providers = {each["urn"]: each for each in resources}
        ours = {str(node.host) for node in self._stack.nodes}
        for each in resources:
            name = str(each.get("inputs", {}).get("name", ""))
            node = names.node_of(self._stack.name, name, names.SERVICE)
            if not each["type"].endswith(":Container") or node is None:
                continue
            provider = providers.get(str(each.get("provider", "")).rpartition("::")[0], {})
            host = provider.get("inputs", {}).get("host")
            if isinstance(host, str) and host not in ours:
                options = Connection.to(self._stack.nodes[0].host, self._ssh).options
                yield node, self._place(node, Connection(host, options))


def silent(original: Standing, seconds: float) -> str | None:
    """Why the original service does not serve; None if it does, or runs on a host that cannot tell."""
    arguments = (str(original.http), f"{seconds:.0f}", *original.ids)
    try:
        original.connection.run(_ORIGINAL_SERVES, *arguments, timeout=seconds + _SECONDS)
    except (RemoteError, subprocess.TimeoutExpired):
        return "the original service there does not answer"
    return None


def _ids(containers: list[Listed]) -> tuple[str, ...]:
    return tuple(each.id for each in containers)
