"""Steady load on the gateway: requests at a fixed rate, whether or not earlier ones are answered. Keeps each
outcome."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx2


@dataclass(frozen=True)
class Outcome:
    """One request: its start in seconds since the load began, its duration, and its error (None: none)."""

    at: float
    seconds: float
    failure: str | None


#: Requests that may wait for their answers, as seconds of the rate.
_MOST_WAITING_SECONDS = 4


@dataclass
class Load:
    """The outcomes of a load. Complete after its `with` block."""

    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def failures(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.failure is not None]

    def since(self, at: float) -> list[Outcome]:
        """The requests that started after that second."""
        return [outcome for outcome in self.outcomes if outcome.at >= at]

    def summary(self) -> str:
        """The number of requests, their durations, and the first failures with their times."""
        seconds = sorted(outcome.seconds for outcome in self.outcomes)
        slow = f"slowest {seconds[-1]:.2f} s" if seconds else "none finished"
        lines = [f"{len(self.outcomes)} requests, {len(self.failures)} failed, {slow}"]
        lines += [
            f"  at {one.at:6.2f} s after {one.seconds:.2f} s: {one.failure}" for one in self.failures[:10]
        ]
        return "\n".join(lines)


Check = Callable[[httpx2.Response], str | None]


def success(response: httpx2.Response) -> str | None:
    """The default check: status 200. Any other status is a failure, with the start of its body."""
    return None if response.status_code == 200 else f"{response.status_code} {response.text[:300]}"


@contextmanager
def load(
    request: Callable[[], httpx2.Request],
    *,
    rate: float,
    keep_alive: bool = True,
    patience: float = 120,
    check: Check = success,
) -> Iterator[Load]:
    """Sends `rate` requests a second in the background during the `with` block, then waits for the last
    answers.

    `request` makes each request. With `keep_alive` connections are reused, as in a browser or a client
    library. Without it each request has its own connection, so a server that closes idle ones cannot cause a
    failure. A machine that is too slow for the rate gets fewer requests instead of a growing queue.
    """
    seen = Load()
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_send(seen, stop, request, rate, keep_alive, patience, check)), name="load"
    )
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


async def _send(
    seen: Load,
    stop: threading.Event,
    request: Callable[[], httpx2.Request],
    rate: float,
    keep_alive: bool,
    patience: float,
    check: Check,
) -> None:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None if keep_alive else 0)
    began = time.monotonic()

    waiting = 0

    async def one() -> None:
        nonlocal waiting
        waiting += 1
        sent = time.monotonic()
        try:
            failure = check(await client.send(request()))
        except httpx2.HTTPError as error:
            failure = f"{type(error).__name__} {error}"
        waiting -= 1
        seen.outcomes.append(Outcome(sent - began, time.monotonic() - sent, failure))

    async with (
        httpx2.AsyncClient(timeout=patience, limits=limits, trust_env=False) as client,
        asyncio.TaskGroup() as group,
    ):
        number = 0
        while not stop.is_set():
            if waiting < rate * _MOST_WAITING_SECONDS:
                group.create_task(one())
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
