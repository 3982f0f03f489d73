"""The judgement of a changed node by its work: what it answers, how fast, and how its clients fare.

Pure functions over what `infra/node_probe.py` prints.
"""

import difflib
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from infra.gateway.pools import TASKS
from infra.stack import Judge

# Below these, a ratio says nothing: the noise of a busy machine is as large.
_WORK_SECONDS, _REQUEST_SECONDS = 1.0, 0.25
# So many failed requests, and so much more than elsewhere, are no chance even if there were few.
_FEWEST, _CERTAIN = 3, 0.5

#: The keys of an answer, by task, and their types.
_SHAPES: dict[str, dict[str, type | tuple[type, ...]]] = {
    "asr": {"text": str},
    "emotion": {"emotion": str, "emotions": dict},
    "synthesis": {"is_synthetic": bool, "score": (int, float)},
}


def together(peers: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The answers of several nodes as those of one: of each task one with a result, if any."""
    work: dict[str, Any] = {}
    for peer in peers:
        for task, answer in peer["work"].items():
            if task not in work or work[task]["status"] != 200:
                work[task] = answer
    return {"work": work} if work else None


def work_problems(
    probed: Mapping[str, Any], peer: Mapping[str, Any] | None, judge: Judge, tasks: Collection[str] = TASKS
) -> list[str]:
    """What is wrong with a node's answers to the recording. `tasks` are those that the stack gives it.

    `peer` are the answers of nodes that have not changed, if there is one.
    """
    offers = probed["offers"]
    if offers["status"] != 200:
        return [f"/info answers {offers['status'] or offers['message']}"]
    problems = []
    theirs = peer.get("work", {}) if peer is not None else {}
    for task, work in probed["work"].items():
        problems += [f"{task}: {text}" for text in _task_problems(task, work, theirs.get(task), judge)]
    problems += [
        f"{task}: is no longer offered" for task in theirs if task in tasks and task not in probed["work"]
    ]
    return problems


def _task_problems(
    task: str, work: Mapping[str, Any], peer: Mapping[str, Any] | None, judge: Judge
) -> Iterator[str]:
    if peer is not None and peer["status"] != 200:
        return  # It is no fault of the change: the nodes are full, or none can do this task.
    if work["status"] != 200:
        yield f"answers {work['status'] or ''} {work['message']}".replace("  ", " ")
        return
    answer = work["answer"] if isinstance(work["answer"], dict) else {}
    for key, kind in _SHAPES[task].items():
        if not isinstance(answer.get(key), kind):
            yield f"its answer has no valid `{key}`: {str(work['answer'])[:200]}"
            return
    if peer is None:
        return
    if (
        work["seconds"] > judge.slowdown * peer["seconds"]
        and work["seconds"] - peer["seconds"] > _WORK_SECONDS
    ):
        yield (
            f"takes {work['seconds']:.2f} s for a recording that a node that has not changed answers in "
            f"{peer['seconds']:.2f} s"
        )
    if task == "asr":
        heard, expected = answer["text"], str(peer["answer"].get("text", ""))
        if (share := agreement(heard, expected)) < judge.agreement:
            yield (
                f"hears “{heard[:120]}” where a node that has not changed hears “{expected[:120]}”: "
                f"{share:.0%} of the words agree, and rollout.judge.agreement is {judge.agreement:.0%}"
            )


def agreement(heard: str, expected: str) -> float:
    """The share of words that two transcripts have in common, in their order; 1 if both are empty."""
    return difflib.SequenceMatcher(None, _words(heard), _words(expected), autojunk=False).ratio()


def _words(text: str) -> list[str]:
    return [word.strip(".,;:!?¿¡").lower() for word in text.split()]


@dataclass(frozen=True, slots=True)
class Counted:
    """Requests for work in a span of time: how many, how many failed, and their duration in seconds."""

    all: float = 0.0
    failed: float = 0.0
    seconds: float = 0.0

    def plus(self, other: Self) -> Self:
        """The requests of both."""
        return type(self)(self.all + other.all, self.failed + other.failed, self.seconds + other.seconds)

    @property
    def failures(self) -> float:
        """The share of failed requests."""
        return self.failed / self.all if self.all else 0.0

    @property
    def mean(self) -> float:
        """Seconds of a request."""
        return self.seconds / self.all if self.all else 0.0


Traffic = Mapping[str, Counted]


def traffic(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Counted]:
    """A node's requests between two looks at its metrics, by entrance and route."""
    found = {}
    for route, counted in after["requests"].items():
        earlier = before["requests"].get(route, {})
        change = {key: counted[key] - earlier.get(key, 0.0) for key in counted}
        # A worker that was replaced takes its counts along.
        if change["all"] > 0 and min(change.values()) >= 0:
            found[route] = Counted(**change)
    return found


def total(nodes: Sequence[Traffic]) -> dict[str, Counted]:
    """The requests of several nodes, by entrance and route."""
    found: dict[str, Counted] = {}
    for node in nodes:
        for route, counted in node.items():
            found[route] = found.get(route, Counted()).plus(counted)
    return found


def traffic_problems(node: Traffic, peers: Traffic, judge: Judge) -> list[str]:
    """What is wrong with a node's requests, compared with those of the nodes that have not changed."""
    problems = []
    for route, counted in sorted(node.items()):
        other = peers.get(route, Counted())
        problems += [f"{route}: {text}" for text in _failing(counted, other, judge)]
        problems += [f"{route}: {text}" for text in _slow(counted, other, judge)]
    if not problems:
        # A few failures of each of several kinds.
        problems += [f"all requests: {text}" for text in _failing(_all(node), _all(peers), judge)]
    return problems


def _all(traffic: Traffic) -> Counted:
    return functools.reduce(Counted.plus, traffic.values(), Counted())


def _failing(mine: Counted, theirs: Counted, judge: Judge) -> Iterator[str]:
    # nginx avoids a node for half a minute after three failures: one that always fails gets few requests.
    allowed = judge.failures if mine.all >= judge.requests else _CERTAIN
    if mine.failed >= _FEWEST and mine.failures - theirs.failures > allowed:
        yield (
            f"{mine.failed:.0f} of {mine.all:.0f} requests failed; on the nodes that have not changed "
            f"{theirs.failed:.0f} of {theirs.all:.0f}"
        )


def _slow(mine: Counted, theirs: Counted, judge: Judge) -> Iterator[str]:
    if min(mine.all, theirs.all) < judge.requests:
        return
    if mine.mean > judge.slowdown * theirs.mean and mine.mean - theirs.mean > _REQUEST_SECONDS:
        yield (f"{mine.mean:.2f} s for a request; on the nodes that have not changed {theirs.mean:.2f} s")
