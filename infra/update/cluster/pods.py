"""Pods as workers: they can be asked to work, and say how often their containers ended."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from infra import names
from infra.kubernetes import labels
from infra.kubernetes.state import containers, is_ready
from infra.update.cluster.kubectl import ClusterError, Kubectl
from infra.update.work import PROBE

_MARGIN_SECONDS = 20
_LOG_LINES = 20


@dataclass(frozen=True)
class Pod:
    """A pod of a pool."""

    kubectl: Kubectl
    name: str
    tasks: Collection[str]

    def probe(self, asked: Mapping[str, Any], seconds: float) -> dict[str, Any] | None:
        """What `node_probe` prints in its service's container; None without an answer."""
        inside = ["exec", "-i", self.name, f"--container={names.SERVICE}", "--", "python3", "-c", PROBE]
        try:
            text = self.kubectl.run(*inside, given=json.dumps(asked), seconds=seconds + _MARGIN_SECONDS)
            return dict(json.loads(text))
        except (ClusterError, ValueError):
            return None

    def restarts(self) -> int | None:
        """How often its containers were started again; None where the cluster does not tell."""
        try:
            found = self.kubectl.named("pod", self.name)
        except ClusterError:
            return None
        return None if found is None else restarts(found)

    def last_lines(self) -> str:
        """The last lines of the log of the container that is to blame, after a line that says which.

        That is the first one that is not ready, else the service's.
        """
        try:
            found = self.kubectl.named("pod", self.name)
            container = names.SERVICE if found is None else _to_blame(found)
            asked = ["logs", self.name, f"--container={container}", f"--tail={_LOG_LINES}"]
            # Of a container that ended and waits, this is the log until its end.
            text = self.kubectl.run(*asked).rstrip() or self.kubectl.run(*asked, "--previous").rstrip()
        except ClusterError as error:
            # A container that never ran has no log, and the reason is told already.
            never_ran = "waiting to start" in str(error)
            return "" if never_ran else f"the log of pod {self.name} cannot be read: {error}"
        return f"the last lines of {container} in pod {self.name}:\n{text}"


def _to_blame(pod: Mapping[str, Any]) -> str:
    """The name of the first container of a pod that is not ready, else the service's."""
    return next((str(each["name"]) for each in containers(pod) if not each.get("ready")), names.SERVICE)


def restarts(pod: Mapping[str, Any]) -> int:
    """How often the containers of a pod were started again."""
    return sum(int(each.get("restartCount", 0)) for each in containers(pod))


def revision(pod: Mapping[str, Any]) -> str | None:
    """The template that a pod is of."""
    found: str | None = pod["metadata"].get("annotations", {}).get(labels.REVISION)
    return found


def serves(pod: Mapping[str, Any]) -> bool:
    """Whether a pod gets requests: it is ready, does not end, and no update took its traffic."""
    if pod["metadata"].get("deletionTimestamp") or pod["metadata"]["labels"].get(labels.TRAFFIC) != labels.ON:
        return False
    return is_ready(pod)
