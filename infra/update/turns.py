"""Decides, during an update, when a node may be taken down: enough others must serve at that moment."""

import contextlib
import shlex
import subprocess
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from infra.connection import Connection, RemoteError
from infra.gateway.pools import TASKS
from infra.node_health import NodeAddress, problems
from infra.stack import Rollout
from infra.update import moves
from infra.update.moves import Moves, Standing

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

    def servers(self) -> dict[str, set[str]] | None:
        """The addresses of the servers that get traffic, by the name of their node; None without a file.

        Raises RemoteError and subprocess.TimeoutExpired.
        """
        file = shlex.quote(self.file)
        script = f"[ ! -e {file} ] || {{ echo there; grep -E 'server .*; # ' {file} || :; }}"
        lines = self.connection.run(script, timeout=_ANSWER_SECONDS + 10).stdout.splitlines()
        if not lines:
            return None
        found: dict[str, set[str]] = {}
        for line in lines[1:]:
            if " down; # " not in line:
                found.setdefault(line.rpartition("# ")[2], set()).add(line.split()[1])
        return found


@dataclass(frozen=True, slots=True)
class Entrances:
    """The gateways of the stack whose hosts can be reached."""

    each: tuple[Entrance, ...]

    def servers(self) -> dict[str, set[str]] | None:
        """What `Entrance.servers` returns, of all gateways together.

        Raises RemoteError and subprocess.TimeoutExpired where no gateway's file can be read.
        """
        found: list[dict[str, set[str]] | None] = []
        errors: list[RemoteError | subprocess.TimeoutExpired] = []
        for entrance in self.each:
            try:
                found.append(entrance.servers())
            except (RemoteError, subprocess.TimeoutExpired) as error:
                errors.append(error)
        if errors and not found:
            raise errors[0]
        files = [servers for servers in found if servers is not None]
        names = {name for servers in files for name in servers}
        return {n: set().union(*(servers.get(n, ()) for servers in files)) for n in names} if files else None


@dataclass(frozen=True, slots=True)
class _Seat:
    """A server that clients are sent to, and what may answer there: nodes of the stack by name, places that
    nodes leave, and the original service. A seat that is not `certain` counts only while it serves."""

    nodes: frozenset[str]
    former: tuple[NodeAddress, ...] = ()
    original: Standing | None = None
    certain: bool = True


class Turns:
    """The turns of the nodes that get traffic by the stack file.

    `nodes` can be reached; `away` cannot. `addresses` are those at which the gateway dials nodes, by name.
    Nodes that the gateway does not send traffic to yet, because they are new, do not count; where its file
    cannot be read, every node counts. `moves` tell what stands where nodes go.
    """

    def __init__(
        self,
        nodes: Mapping[str, NodeAddress],
        away: frozenset[str],
        rollout: Rollout,
        entrance: Entrance | Entrances | None,
        moves: Moves | None = None,
        addresses: Mapping[str, str] | None = None,
        tasks: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self._nodes, self._away, self._rollout, self._entrance = nodes, away, rollout, entrance
        self._moves, self._addresses, self._tasks = moves, addresses or {}, tasks or {}
        self._unserved: dict[str, list[str]] = {}
        self._changing: set[str] = set()
        #: What else does not serve while they change: the seats, by the node that changes.
        self._falling: dict[str, set[str]] = {}
        # Two nodes of a batch must not each count on the other.
        self._deciding = threading.Lock()

    @property
    def lone(self) -> bool:
        """Whether no two nodes get traffic."""
        return len(self._nodes) + len(self._away) < 2

    def take(self, node: str) -> bool:
        """Waits until the node may be taken down, and what stands where it goes. Returns whether no other
        node serves meanwhile.

        Raises NotEnough, RemoteError and subprocess.TimeoutExpired.
        """
        standing = [] if self._moves is None else self._moves.standing(node)
        if node not in self._nodes and not standing:
            return False
        began = time.monotonic()
        while True:
            with self._deciding:
                seats, reasons = self._asked()
                own = {name for name, seat in seats.items() if _falls(node, standing, seat)}
                others = seats.keys() - own
                answering = others - reasons.keys()
                needed = self._rollout.needed(len(seats))
                serves_nobody = own <= reasons.keys()
                lone, missing = self._task_gaps(node, seats, others, answering)
                if serves_nobody or (len(answering) >= needed and not missing):
                    self._changing.add(node)
                    self._falling[node] = own
                    self._unserved[node] = [] if serves_nobody or not answering else lone
                    return not (serves_nobody or (answering and not lone))
                others_change = others & set().union(*self._falling.values())
                patience = self._rollout.ready_timeout_seconds if others_change else 0
            if time.monotonic() - began > max(patience, _PATIENCE_SECONDS):
                raise NotEnough(
                    _message(
                        node,
                        needed,
                        len(answering),
                        {n: reasons[n] for n in others & reasons.keys()},
                        missing if len(answering) >= needed else [],
                    )
                )
            time.sleep(_POLL_SECONDS)

    def unserved(self, node: str) -> list[str]:
        """The tasks that no other node has while a node changes; empty where no other node serves at all."""
        return self._unserved.get(node, [])

    def _task_gaps(
        self, node: str, seats: Mapping[str, _Seat], others: Set[str], answering: Set[str]
    ) -> tuple[list[str], list[str]]:
        """The tasks of a node that no other node has, and those of which no other node answers."""
        lone, missing = [], []
        for task in self._tasks.get(node, TASKS):
            having = {
                name
                for name in others
                # What does not belong to the stack, as a former place, may serve everything.
                if any(task in self._tasks.get(each, TASKS) for each in seats[name].nodes or {""})
            }
            if not having:
                lone.append(task)
            elif not having & answering and self._rollout.min_healthy != 0:
                missing.append(task)
        return lone, missing

    def clear(self, node: str) -> list[Standing]:
        """Stops what stands where a node goes; returns it. Raises RemoteError, subprocess.TimeoutExpired."""
        return [] if self._moves is None else self._moves.clear(node)

    @property
    def changing(self) -> set[str]:
        """The nodes that may be down now, because they are changing."""
        return set(self._changing)

    def others_serve(self, node: str) -> bool:
        """Whether another node serves now."""
        seats, reasons = self._asked()
        own = self._falling.get(node, set())
        return any(
            node not in seat.nodes and name not in own | reasons.keys() for name, seat in seats.items()
        )

    def finish(self, node: str) -> None:
        """The node has changed and serves again."""
        self._changing.discard(node)
        self._falling.pop(node, None)

    def _asked(self) -> tuple[dict[str, _Seat], dict[str, str]]:
        """The seats by name, and why those do not serve that do not."""
        seats = self._seats()
        reasons = self._silent(seats)
        return {name: seat for name, seat in seats.items() if seat.certain or name not in reasons}, reasons

    def _seats(self) -> dict[str, _Seat]:
        everyone = self._nodes.keys() | self._away
        servers: dict[str, set[str]] | None = {name: set() for name in everyone}
        if self._entrance is not None:
            with contextlib.suppress(RemoteError, subprocess.TimeoutExpired):
                servers = self._entrance.servers()
        seats = {name: self._seat(name, dialled, everyone) for name, dialled in (servers or {}).items()}
        found = {name: seat for name, seat in seats.items() if seat.nodes or seat.former}
        # The original service's own gateway sends it traffic, and the new nodes in its place.
        if self._rollout.take_over and self._moves is not None:
            seated = {node for seat in found.values() for node in seat.nodes}
            for name in everyone - seated:
                original = self._moves.original(name)
                if original is not None or servers is None:
                    found[name] = _Seat(frozenset({name}), (), original, certain=original is not None)
        return found

    def _seat(self, name: str, dialled: Set[str], everyone: Set[str]) -> _Seat:
        """The seat of a server. The gateway's file names it after the node that was there when the file was
        written; nothing is dialled where the file cannot be read."""
        there = frozenset(node for node in everyone if self._addresses.get(node) in dialled)
        if self._moves is None or name in there:
            return _Seat(there or frozenset({name} & everyone))
        former = tuple(self._moves.leaving(name))
        if not dialled:
            there = frozenset(node for place in former for node in self._moves.takers(place))
        elif not there and not former and (left := self._moves.left(name)) is not None:
            former = (left,)
        # A node without a former place stays and gets another address.
        return _Seat(there if there or former else frozenset({name} & everyone), former)

    def _silent(self, seats: Mapping[str, _Seat]) -> dict[str, str]:
        """The seats that do not serve, with the reasons."""
        falling = set().union(*self._falling.values())
        changing = {n for n, seat in seats.items() if n in falling or seat.nodes & self._changing}
        asked = {
            address.node: address
            for name, seat in seats.items()
            if name not in changing
            for address in (*seat.former, *(self._nodes[n] for n in seat.nodes & self._nodes.keys()))
        }
        silent = problems([asked[label] for label in sorted(asked)], _ANSWER_SECONDS)
        silent |= dict.fromkeys(self._away, "its host cannot be reached")
        reasons = dict.fromkeys(changing, "it is changing")
        for name in seats.keys() - changing:
            seat = seats[name]
            there = [*seat.nodes, *(each.node for each in seat.former)]
            answers = any(label not in silent for label in there)
            if not answers and seat.original is not None:
                answers = moves.silent(seat.original, _ANSWER_SECONDS) is None
            if not answers:
                reasons[name] = next((silent[label] for label in there), "nothing is there")
        return reasons


def _falls(node: str, standing: Iterable[Standing], seat: _Seat) -> bool:
    """Whether what serves at a seat ends when a node changes and what stands where it goes is stopped."""
    if node in seat.nodes:
        return True
    places = [each.node for each in standing if each.node is not None]
    return any(place in seat.former or place.node in seat.nodes for place in places)


def _message(node: str, needed: int, answering: int, reasons: Mapping[str, str], tasks: Sequence[str]) -> str:
    silent = "".join(f"\n  {name}: {reason}" for name, reason in sorted(reasons.items()))
    why = f"{answering} other nodes serve, and rollout.minHealthy requires {needed}"
    if tasks:
        why = f"no other node serves {' and '.join(tasks)} now"
    return (
        f"node {node} stays as it is: {why}. These do not:{silent}\n"
        "  `pulumi up` changes nodes that do not serve first. rollout.minHealthy: 0 accepts the gap."
    )
