"""Tries a worker that has changed: it must do its work, and a canary must serve for a while.

A worker is a node on a host, or a pod. It is compared with workers that have not changed.
"""

import base64
import io
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from inference_service import addresses
from infra import names, node_probe
from infra.paths import RECORDING
from infra.stack import Judge
from infra.update.judgement import together, total, traffic, traffic_problems, work_problems

#: Runs in the service's container, which has Python but not this project; JSON on its standard input.
PROBE = Path(node_probe.__file__).read_text(encoding="utf-8")
_BASE = f"http://{names.LOOPBACK}:{addresses.HTTP_PORT}"
_TIMES = 2
_PEERS = 2
_SPOKEN_SECONDS = 4
_TASKS = 3
#: How long a worker without requests is watched.
_QUIET_SECONDS = 5.0
_LOOK_SECONDS = 2.0
_MOST_SILENT = 3
_MOST_AT_ONCE = 16


class Worker(Protocol):
    """What does the work of a service, and can be asked about it."""

    @property
    def name(self) -> str:
        """A name that no other worker of the stack has."""

    @property
    def tasks(self) -> Collection[str]:
        """The tasks that the stack gives it."""

    def probe(self, asked: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """What `PROBE` prints within `seconds` and some for its start; None without an answer."""

    def restarts(self) -> int | None:
        """How often its containers ended and were started again; None where nobody tells."""


def speech() -> str:
    """Four seconds of the recording as a WAV file, in base64."""
    # It imports numpy, which an update that changes nothing does not need: a tenth of a second.
    import soundfile

    rate = soundfile.info(RECORDING).samplerate
    samples, _ = soundfile.read(RECORDING, dtype="int16", frames=_SPOKEN_SECONDS * rate)
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()


def does_work(worker: Worker, peers: Sequence[Worker], judge: Judge) -> list[str]:
    """What is wrong with a worker's answers to the recording, compared with its peers'."""
    problems: list[str] = []
    # The first request to a fresh model is slow, and a busy node may refuse one: so bad is bad twice.
    for times in (1, _TIMES):
        asked = {"url": _BASE, "audio": speech(), "times": times, "seconds": judge.seconds}
        # One that serves is enough, and several are asked because one may not.
        both = _each([worker, *_like(worker, peers)], asked, _TASKS * times * judge.seconds)
        if (mine := both.pop(worker.name, None)) is None:
            problems = ["its service cannot be asked: its container does not answer"]
        else:
            problems = work_problems(mine, together(both.values()), judge, worker.tasks)
        if not problems:
            break
    return problems


def serves(worker: Worker, peers: Sequence[Worker], judge: Judge, seconds: float) -> list[str]:
    """What is wrong with a worker's requests in so many seconds, compared with its peers'.

    It ends early when they are bad, and after a while without requests.
    """
    end = time.monotonic() + seconds
    quiet = time.monotonic() + _QUIET_SECONDS
    restarts = worker.restarts()
    first = _look([worker, *peers])
    silent = 0
    while (now := time.monotonic()) < end:
        time.sleep(min(_LOOK_SECONDS, end - now))
        now_restarts = worker.restarts()
        restarts = now_restarts if restarts is None else restarts
        if now_restarts is not None and restarts is not None and now_restarts > restarts:
            return [f"its containers ended {now_restarts - restarts} times while it served"]
        seen = {name: look for name, look in _look([worker, *peers]).items() if name in first}
        silent = 0 if worker.name in seen else silent + 1
        if silent == _MOST_SILENT:
            return [f"its metrics did not answer {silent} times in a row"]
        counts = {name: traffic(first[name], look) for name, look in seen.items()}
        mine = counts.pop(worker.name, {})
        if problems := traffic_problems(mine, total(list(counts.values())), judge):
            return problems
        if not mine and not any(counts.values()) and time.monotonic() > quiet:
            break
    return []


def _like(worker: Worker, peers: Sequence[Worker]) -> list[Worker]:
    """The peers that are asked too: some for each task of the worker."""
    serving = [[peer for peer in peers if task in peer.tasks][:_PEERS] for task in worker.tasks]
    return list({peer.name: peer for some in serving for peer in some}.values())


def _look(workers: Sequence[Worker]) -> dict[str, dict[str, Any]]:
    """The counted requests of the workers that answer, by name."""
    return _each(workers, {"url": _BASE}, 0)


def _each(workers: Sequence[Worker], asked: Mapping[str, Any], seconds: float) -> dict[str, dict[str, Any]]:
    """What the workers that answer say, by name; all are asked at the same time."""
    with ThreadPoolExecutor(max_workers=min(len(workers), _MOST_AT_ONCE)) as pool:
        found = zip(workers, pool.map(lambda worker: worker.probe(asked, seconds), workers), strict=True)
        return {worker.name: answer for worker, answer in found if answer is not None}
