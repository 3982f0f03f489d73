"""Samples every node and the gateway, and keeps what it saw."""

import asyncio
import contextlib
import os
import ssl
import sys
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from inference_service.console.exposition import Sample, read
from inference_service.console.figures import Figures, between, growth, together
from inference_service.console.gateway_log import GatewayLog
from inference_service.console.history import History
from inference_service.console.settings import ConsoleSettings, NodeTls, SettingsInvalid, WatchedNode, load

#: Seconds. A node that died is red within two rounds and the time limit of one: 5 s.
ROUND_SECONDS = 2.0
_ANSWER_SECONDS = 1.5
#: Every so many rounds, metrics too; and the description.
_METRICS_ROUNDS, _INFO_ROUNDS = 2, 15
#: Figures are those of this many seconds, so that one request is no spike.
_WINDOW_SECONDS = 20.0
_HOUR_POINTS = int(3600 / (ROUND_SECONDS * _METRICS_ROUNDS))


@dataclass
class Watched:
    """What is known of one part now. `health` is healthy, unhealthy, down or unknown (not yet asked)."""

    health: str = "unknown"
    reason: str = ""
    since: float = 0.0
    changed: float = 0.0
    figures: Figures | None = None
    info: dict[str, Any] | None = None
    history: History = field(default_factory=lambda: History(_HOUR_POINTS))
    samples: list[tuple[float, Sample]] = field(default_factory=list)

    def saw(self, health: str, reason: str, now: float) -> None:
        """Records the health, and the time of its last change."""
        if health != self.health:
            self.health, self.since = health, now
        self.reason = reason

    def measured(self, sample: Sample | None, now: float) -> None:
        """Adds a sample; None where the part gave none."""
        if sample is None:
            self.samples.clear()
            self.figures = None
        else:
            self.samples = [each for each in self.samples if now - each[0] <= _WINDOW_SECONDS]
            if self.samples:
                began, before = self.samples[0]
                self.figures = between(before, sample, now - began)
            self.samples.append((now, sample))
        self.history.add(now, self.figures)

    def described(self, info: dict[str, Any], now: float) -> None:
        """Records the node's description, and the time of its last change."""
        known = {key: value for key, value in info.items() if key != "timestamp"}
        if self.info is not None and known != self.info:
            self.changed = now
        self.info = known


class Watcher:
    """Watches the parts of a fleet until it is cancelled. A node that does not answer delays no other.

    `file` is that of the settings: when it changes, the nodes in it are those that are watched.
    """

    def __init__(self, settings: ConsoleSettings, log: GatewayLog | None, file: Path | None = None) -> None:
        self.settings = settings
        self._file = file
        self._tasks: dict[WatchedNode, asyncio.Task[None]] = {}
        self.nodes = {node.name: Watched() for node in settings.nodes}
        self.gateway = Watched()
        self.fleet = Watched()
        self.began = time.time()
        self._log = log
        key = {"Authorization": f"Bearer {settings.api_keys[0]}"} if settings.api_keys else {}
        # Its certificate is for the name that clients use, not for the address that is asked here.
        self._of_gateway = httpx2.AsyncClient(timeout=_ANSWER_SECONDS, verify=False, trust_env=False)
        self._name = {"sni_hostname": settings.tls.name} if settings.tls is not None else {}
        self._client = httpx2.AsyncClient(
            timeout=_ANSWER_SECONDS,
            verify=_context(settings.tls) if settings.tls is not None else False,
            trust_env=False,
            headers=key,
            limits=httpx2.Limits(max_keepalive_connections=None, keepalive_expiry=60),
        )

    async def run(self) -> None:
        """Samples all parts every round."""
        async with self._client, self._of_gateway, asyncio.TaskGroup() as tasks:
            self._watch_all(tasks)
            tasks.create_task(self._watch_gateway())
            tasks.create_task(self._sum_up())
            if self._file is not None:
                tasks.create_task(self._follow(self._file, tasks))

    def _watch_all(self, tasks: asyncio.TaskGroup) -> None:
        """Watches the nodes of the settings, and no others. What is known of those that stay is kept."""
        nodes = self.settings.nodes
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
                self._watch_all(tasks)

    async def log_of(self, node: WatchedNode, lines: int) -> httpx2.Response:
        """The node's answer to a request for its last log lines."""
        return await self._ask(f"{node.url}/api/v1/ai/log?lines={lines}", 5)

    async def _ask(self, url: str, seconds: float = _ANSWER_SECONDS) -> httpx2.Response:
        """A node's answer."""
        return await self._client.get(url, timeout=seconds, extensions=self._name)

    async def _watch(self, node: WatchedNode, watched: Watched, delay: float) -> None:
        await asyncio.sleep(delay)
        number = 0
        while True:
            began = time.monotonic()
            await self._check(watched, self._ask(f"{node.url}/api/v1/ai/health"))
            if number % _METRICS_ROUNDS == 0:
                watched.measured(await self._sample(node) if watched.health != "down" else None, time.time())
            if number % _INFO_ROUNDS == 0 and watched.health != "down":
                await self._describe(node, watched)
                number = 0 if watched.info is not None else -1
            number += 1
            await asyncio.sleep(max(ROUND_SECONDS - (time.monotonic() - began), 0.1))

    async def _watch_gateway(self) -> None:
        number = 0
        while True:
            if self.settings.probe is None:
                # Whoever reads this came through the gateway.
                self.gateway.saw("healthy", "", time.time())
            else:
                await self._check(self.gateway, self._of_gateway.get(f"{self.settings.probe}/health"))
            if number % _METRICS_ROUNDS == 0:
                self.gateway.measured(self._log.sample() if self._log else None, time.time())
            number += 1
            await asyncio.sleep(ROUND_SECONDS)

    async def _sum_up(self) -> None:
        """Keeps the figures of the whole fleet."""
        while True:
            await asyncio.sleep(ROUND_SECONDS * _METRICS_ROUNDS)
            spans = [each.samples for each in self.nodes.values() if len(each.samples) > 1]
            longest = max((span[-1][0] - span[0][0] for span in spans), default=0.0)
            grown = [growth(span[0][1], span[-1][1]) for span in spans]
            self.fleet.figures = together(grown, longest) if grown else None
            self.fleet.history.add(time.time(), self.fleet.figures)

    async def _check(self, watched: Watched, asked: Awaitable[httpx2.Response]) -> None:
        try:
            answer = await asked
        except (httpx2.HTTPError, OSError) as error:
            watched.saw("down", _reason(error), time.time())
            return
        if answer.status_code == 200:
            watched.saw("healthy", "", time.time())
        else:
            watched.saw("unhealthy", _message(answer), time.time())

    async def _sample(self, node: WatchedNode) -> Sample | None:
        with contextlib.suppress(httpx2.HTTPError, OSError):
            answer = await self._ask(f"{node.url}/metrics")
            if answer.status_code == 200:
                return read(answer.text)
        return None

    async def _describe(self, node: WatchedNode, watched: Watched) -> None:
        with contextlib.suppress(httpx2.HTTPError, OSError, ValueError, KeyError):
            answer = await self._ask(f"{node.url}/api/v1/ai/info")
            if answer.status_code == 200:
                watched.described(answer.json()["data"], time.time())


def _context(tls: NodeTls) -> ssl.SSLContext:
    """Verifies nodes, and shows them who asks."""
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


def _message(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within {_ANSWER_SECONDS} s"
    return "its port is closed" if isinstance(error, httpx2.ConnectError) else "it closed the connection"
