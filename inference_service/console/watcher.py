"""Samples every node and the gateway, and keeps what it saw."""

import asyncio
import json
import math
import os
import ssl
import sys
import time
from pathlib import Path

from inference_service.console import certificate, recall
from inference_service.console.asking import Answer, Connection, NoAnswer
from inference_service.console.exposition import Sample, read
from inference_service.console.figures import growth, together
from inference_service.console.gateway_log import GatewayLog
from inference_service.console.gateway_metrics import GatewayMetrics
from inference_service.console.members import Members, resolve
from inference_service.console.settings import ConsoleSettings, NodeTls, SettingsInvalid, WatchedNode, load
from inference_service.console.watched import METRICS_ROUNDS, ROUND_SECONDS, Watched

#: Seconds of a round while nobody looks.
_IDLE_ROUND_SECONDS = 5.0
_ANSWER_SECONDS = 1.5
#: For so long after a page asked, somebody looks; a page asks every two seconds.
_LOOKING_SECONDS = 15.0
#: Every so many rounds, the description too.
_INFO_ROUNDS = 15
#: An update may change the gateway's certificate.
_CERTIFICATE_SECONDS = 300.0


class Watcher:
    """Watches the parts of a fleet until it is cancelled. A node that does not answer delays no other.

    `file` is that of the settings: when it changes, the nodes in it are those that are watched.
    """

    def __init__(self, settings: ConsoleSettings, log: GatewayLog | None, file: Path | None = None) -> None:
        self.settings = settings
        self._file = file
        self._tasks: dict[WatchedNode, asyncio.Task[None]] = {}
        #: The nodes that are watched: those of the settings, or the pods of each that is a pool.
        self.shown = settings.nodes
        self._pools: dict[WatchedNode, Members] = {}
        self.nodes = {node.name: Watched() for node in settings.nodes}
        self.gateway = Watched()
        self.fleet = Watched()
        self.began = time.time()
        self._log = log
        self.gateway_metrics = log.metrics if log is not None else GatewayMetrics()
        self._headers = (
            {"Authorization": f"Bearer {settings.api_keys[0]}"} if settings.api_keys else dict[str, str]()
        )
        self._tls = _context(settings.tls)
        self._looked, self._wake = 0.0, asyncio.Event()

    def look(self) -> None:
        """Tells that somebody looks: for a while, rounds are short. The first of them begins now."""
        if not self._looking():
            self._wake.set()
            self._wake = asyncio.Event()
        self._looked = time.monotonic()

    def _looking(self) -> bool:
        return time.monotonic() - self._looked < _LOOKING_SECONDS and self._looked > 0

    async def _pause(self, spent: float = 0.0) -> None:
        """Waits for the next round of a part whose last one took so many seconds."""
        wake = self._wake
        seconds = max((ROUND_SECONDS if self._looking() else _IDLE_ROUND_SECONDS) - spent, 0.1)
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            pass

    async def run(self) -> None:
        """Samples all parts every round."""
        async with asyncio.TaskGroup() as tasks:
            await self._resolve()
            self._watch_all(tasks)
            tasks.create_task(self._follow_pools(tasks))
            tasks.create_task(self._watch_gateway())
            tasks.create_task(self._sum_up())
            if self.settings.prometheus:
                histories = {name: each.history for name, each in self.nodes.items()}
                fill = recall.fill(
                    self.settings.prometheus, self.settings.stack, self.fleet.history, histories
                )
                tasks.create_task(fill)
            if self._file is not None:
                tasks.create_task(self._follow(self._file, tasks))

    def _watch_all(self, tasks: asyncio.TaskGroup) -> None:
        """Watches the nodes that are shown, and no others. What is known of those that stay is kept."""
        nodes = self.shown
        self.nodes = {node.name: self.nodes.get(node.name, Watched()) for node in nodes}
        for node in [each for each in self._tasks if each not in nodes]:
            self._tasks.pop(node).cancel()
        for number, node in enumerate(nodes):
            if node not in self._tasks:
                # Spread over the round, so that fifty nodes are no burst.
                delay = ROUND_SECONDS * number / len(nodes)
                self._tasks[node] = tasks.create_task(self._watch(node, self.nodes[node.name], delay))

    async def _follow(self, file: Path, tasks: asyncio.TaskGroup) -> None:
        """Takes the nodes of the settings' file whenever it is another one."""
        known = _identity(file)
        while True:
            await asyncio.sleep(ROUND_SECONDS)
            if (found := _identity(file)) == known or found is None:
                continue
            known = found
            try:
                self.settings = load(file)
            except SettingsInvalid as error:
                print(f"the settings stay as they were: {error}", file=sys.stderr)
            else:
                await self._resolve()
                self._watch_all(tasks)

    async def _resolve(self) -> None:
        """Finds out which pods each pool has now."""
        nodes = self.settings.nodes
        pools = {node: self._pools.get(node, Members(node)) for node in nodes if node.pool}
        told = await asyncio.gather(*(resolve(pool.url) for pool in pools))
        now = time.time()
        for members, addresses in zip(pools.values(), told, strict=True):
            members.resolved(addresses, now)
        shown: list[WatchedNode] = []
        for node in nodes:
            if node not in pools:
                shown.append(node)
                continue
            others = [each.addresses for pool, each in pools.items() if pool != node]
            shown += pools[node].nodes(self._answers, frozenset().union(*others), now)
        self._pools, self.shown = pools, tuple(shown)

    def _answers(self, name: str) -> bool:
        return name in self.nodes and self.nodes[name].health in ("healthy", "unhealthy")

    async def _follow_pools(self, tasks: asyncio.TaskGroup) -> None:
        """Takes the pods that come, and forgets those that left."""
        while self._pools or self._file is not None:
            await self._pause()
            if self._pools:
                await self._resolve()
                if set(self.shown) != self._tasks.keys():
                    self._watch_all(tasks)

    async def log_of(self, node: WatchedNode, lines: int) -> Answer:
        """The node's answer to a request for its last log lines. Raises NoAnswer."""
        connection = self._connection(node)
        try:
            return await connection.get(f"/api/v1/ai/log?lines={lines}", 5)
        finally:
            connection.close()

    def _connection(self, node: WatchedNode) -> Connection:
        tls = self.settings.tls
        return Connection(node.url, self._headers, self._tls, tls.name if tls is not None else None)

    async def _watch(self, node: WatchedNode, watched: Watched, delay: float) -> None:
        await asyncio.sleep(delay)
        number = 0
        connection = self._connection(node)
        try:
            while True:
                began = time.monotonic()
                await _check(watched, connection, "/api/v1/ai/health")
                watched.certificate_ends = connection.certificate_ends or watched.certificate_ends
                if number % METRICS_ROUNDS == 0:
                    up = watched.health != "down"
                    watched.measured(await _sample(connection) if up else None, time.time())
                if number % _INFO_ROUNDS == 0 and watched.health != "down":
                    await _describe(watched, connection)
                    number = 0 if watched.info is not None else -1
                number += 1
                await self._pause(time.monotonic() - began)
        finally:
            connection.close()

    async def _watch_gateway(self) -> None:
        number = 0
        probe = self.settings.probe or ""
        # Its certificate is for the name that clients use, not for the address that is asked here.
        connection = Connection(probe, {}, certificate.unverified())
        secure, read_at = probe.startswith("https://"), -math.inf
        while True:
            if not probe:
                # Whoever reads this came through the gateway.
                self.gateway.saw("healthy", "", time.time())
            else:
                await _check(self.gateway, connection, "/health")
                if secure and time.monotonic() - read_at > _CERTIFICATE_SECONDS:
                    read_at = time.monotonic()
                    self.gateway.certificate_ends = await certificate.ends(probe, _ANSWER_SECONDS)
            if number % METRICS_ROUNDS == 0:
                self.gateway.measured(self._log.sample() if self._log else None, time.time())
            number += 1
            await self._pause()

    async def _sum_up(self) -> None:
        """Keeps the figures of the whole fleet."""
        while True:
            for _ in range(METRICS_ROUNDS):
                await self._pause()
            spans = [each.samples for each in self.nodes.values() if len(each.samples) > 1]
            longest = max((span[-1][0] - span[0][0] for span in spans), default=0.0)
            grown = [growth(span[0][1], span[-1][1]) for span in spans]
            self.fleet.figures = together(grown, longest) if grown else None
            self.fleet.history.add(time.time(), self.fleet.figures)


async def _check(watched: Watched, connection: Connection, path: str) -> None:
    """Asks for the health."""
    try:
        answer = await connection.get(path, _ANSWER_SECONDS)
    except NoAnswer as error:
        watched.saw("down", str(error), time.time())
        return
    if answer.status == 200:
        watched.saw("healthy", "", time.time())
    else:
        watched.saw("unhealthy", _message(answer), time.time())


async def _sample(connection: Connection) -> Sample | None:
    try:
        answer = await connection.get("/metrics", _ANSWER_SECONDS)
    except NoAnswer:
        return None
    return read(answer.body) if answer.status == 200 else None


async def _describe(watched: Watched, connection: Connection) -> None:
    try:
        answer = await connection.get("/api/v1/ai/info", _ANSWER_SECONDS)
        if answer.status == 200:
            watched.described(json.loads(answer.body)["data"], time.time())
    except (NoAnswer, ValueError, KeyError, TypeError):
        return  # the next round asks again


def _context(tls: NodeTls | None) -> ssl.SSLContext:
    """Verifies nodes, and shows them who asks; without certificates it does neither."""
    if tls is None:
        return certificate.unverified()
    context = ssl.create_default_context(cadata=tls.authority)
    # Python reads a certificate and its key from files only, and the container has no folder for one.
    file = os.memfd_create("console-certificate")
    try:
        os.write(file, f"{tls.certificate}\n{tls.key}\n".encode())
        context.load_cert_chain(f"/proc/self/fd/{file}")
    finally:
        os.close(file)
    return context


def _identity(file: Path) -> tuple[int, int] | None:
    """What another version of a file has otherwise; None where it cannot be read now."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _message(answer: Answer) -> str:
    try:
        return str(json.loads(answer.body)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status}"
