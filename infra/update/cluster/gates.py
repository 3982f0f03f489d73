"""Holds the gates of an update: changed pods must get ready, do their work and serve, or they go back."""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from infra.kubernetes import labels
from infra.stack import Judge, Rollout
from infra.update.cluster.kubectl import ClusterError, Kubectl
from infra.update.cluster.pods import Pod, revision
from infra.update.cluster.pods import serves as gets_requests
from infra.update.cluster.progress import finished, hopeless, reasons, stubborn
from infra.update.cluster.way_back import Change, put_back, recorded
from infra.update.work import Worker, does_work, serves

_POLL_SECONDS = 2.0
#: The reasons why pods wait are told so often.
_TELL_SECONDS = 30.0
#: How long a registry, a quota and the like may refuse.
_PATIENCE_SECONDS = 60.0
#: Answers that the cluster may miss in a row.
_MOST_SILENT = 15


class Bad(Exception):
    """Changed pods are bad; `str(error)` has the reasons, their last log lines, and what runs now."""


@dataclass(frozen=True)
class Gate:
    """A Deployment whose pods change: of the pool `pool`, to the template `revision`.

    `first`: they are the first of their pool that change, its canaries or, without those, all of its pods.
    They serve for a while before the update goes on. `seconds` is how long the change may take.
    """

    pool: str
    deployment: str
    selecting: dict[str, str]
    revision: str
    tasks: Collection[str]
    first: bool
    seconds: float


class Gates:
    """The gates of an update. `nodes` are the labels of the pods of all pools, whose tasks are `tasks`."""

    def __init__(
        self,
        kubectl: Kubectl,
        rollout: Rollout,
        nodes: dict[str, str],
        tasks: dict[str, Collection[str]],
        say: Callable[[str], None],
    ) -> None:
        self._kubectl, self._rollout, self._nodes, self._tasks = kubectl, rollout, nodes, tasks
        self._say = say
        self._changed: list[Change] = []

    def hold(self, gate: Gate) -> None:
        """Waits for the changed pods and judges them. Bad ones get no more requests. Raises Bad."""
        try:
            before = recorded(self._kubectl, gate.deployment)
            self._changed.append(Change(gate.deployment, gate.selecting, before, gate.revision))
            problems = self._not_ready(gate)
            if not problems and before != gate.revision and self._rollout.judge is not None:
                problems = self._judge(gate, self._rollout.judge)
        except ClusterError as error:
            raise Bad(f"{gate.deployment} could not be judged: {error}") from None
        if problems:
            raise Bad(self._taken_back(gate, problems))

    def _not_ready(self, gate: Gate) -> list[str]:
        """Waits until all pods of a Deployment are new and ready; else the reasons."""
        end = time.monotonic() + gate.seconds
        told, refused, silent = time.monotonic(), None, 0
        while True:
            try:
                deployment = self._kubectl.named("deployment", gate.deployment)
                own = self._own(gate)
                silent = 0
            except ClusterError:
                silent += 1
                if silent > _MOST_SILENT:
                    raise
                time.sleep(_POLL_SECONDS)
                continue
            if deployment is None:
                return ["it is not in the cluster: somebody deleted it"]
            if revision(deployment["spec"]["template"]) != gate.revision:
                return ["somebody changed it meanwhile: its template is not the one of this update"]
            if finished(deployment):
                return []
            if (reason := hopeless(deployment, own)) is not None:
                return [reason]
            now = time.monotonic()
            reason = stubborn(deployment, own)
            refused = None if reason is None else (refused or now)
            if reason is not None and refused is not None and now - refused > _PATIENCE_SECONDS:
                return [reason]
            waits = "; ".join(reasons(deployment, own)) or "its pods are not ready yet"
            if now > end:
                return [f"not ready within {gate.seconds:.0f} s: {waits}"]
            if now - told > _TELL_SECONDS:
                self._say(f"{gate.deployment}: {waits}")
                told = now
            time.sleep(_POLL_SECONDS)

    def _judge(self, gate: Gate, judge: Judge) -> list[str]:
        changed = [Pod(self._kubectl, each["metadata"]["name"], gate.tasks) for each in self._own(gate)]
        if not changed:
            self._say(f"{gate.deployment}: it has no pods now, so nobody judged the change")
            return []
        peers = self._peers(gate)
        # Where canaries were judged, the others are like them: one tells whether their machines are.
        tried = changed if gate.first else changed[:1]
        for pod in tried:
            if problems := does_work(pod, peers, judge):
                return _of(pod, problems)
        if not gate.first:
            return []
        with ThreadPoolExecutor(max_workers=len(tried)) as side_by_side:
            seconds = self._rollout.soak_seconds
            found = side_by_side.map(lambda pod: serves(pod, peers, judge, seconds), tried)
            judged = list(zip(tried, found, strict=True))
        return next((_of(pod, problems) for pod, problems in judged if problems), [])

    def _own(self, gate: Gate) -> list[dict[str, Any]]:
        """The new pods of a Deployment that do not end."""
        return [
            pod
            for pod in self._kubectl.listed("pods", gate.selecting)
            if revision(pod) == gate.revision and not pod["metadata"].get("deletionTimestamp")
        ]

    def _peers(self, gate: Gate) -> Sequence[Worker]:
        """Pods that serve and have not changed, those of the same pool first."""
        new = {each.now for each in self._changed}
        found = [
            (pod["metadata"]["labels"].get(labels.POOL, ""), pod["metadata"]["name"])
            for pod in self._kubectl.listed("pods", self._nodes)
            if gets_requests(pod) and revision(pod) not in new
        ]
        found.sort(key=lambda each: (each[0] != gate.pool, each))
        return [Pod(self._kubectl, name, self._tasks.get(pool, ())) for pool, name in found]

    def _taken_back(self, gate: Gate, problems: list[str]) -> str:
        """Takes the requests from bad pods where others serve, and goes back; returns the whole message."""
        figures = "".join(f"\n  {problem}" for problem in problems)
        own = self._own(gate)
        worst = [pod for pod in own if not gets_requests(pod)] or own
        logs = Pod(self._kubectl, worst[0]["metadata"]["name"], ()).last_lines() if worst else ""
        lines = [f"the changed pods of {gate.deployment} are bad:{figures}", self._withdraw(gate, own)]
        if self._rollout.on_failure == "rollBack":
            # The pods that failed serve least.
            back = [put_back(self._kubectl, each, gate.seconds) for each in reversed(self._changed)]
            lines.append("\n".join(["rolled back:", *back]))
        return "\n".join([*filter(None, lines), logs])

    def _withdraw(self, gate: Gate, own: list[dict[str, Any]]) -> str:
        """Takes the requests from the pods of a Deployment that get some, if other pods serve their tasks."""
        bad = {pod["metadata"]["name"] for pod in own if gets_requests(pod)}
        if not bad:
            return ""
        others = {
            task
            for pod in self._kubectl.listed("pods", self._nodes)
            if gets_requests(pod) and pod["metadata"]["name"] not in bad
            for task in self._tasks.get(pod["metadata"]["labels"].get(labels.POOL, ""), ())
        }
        if not set(gate.tasks) <= others:
            return "They keep their requests, because no other pod serves."
        self._kubectl.run("label", "pods", *sorted(bad), f"{labels.TRAFFIC}={labels.OFF}", "--overwrite")
        return "They get no more requests: other pods serve."


def _of(pod: Pod, problems: list[str]) -> list[str]:
    return [f"pod {pod.name}: {problem}" for problem in problems]
