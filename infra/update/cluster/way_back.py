"""Puts back the pods that ran before an update that failed.

A Deployment keeps the pods' templates of before, and their Secrets stay until an update succeeds: the cluster
itself has all that is needed.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

from infra.kubernetes import labels
from infra.kubernetes.gates import REVISION, SUFFIX
from infra.update.cluster.kubectl import ClusterError, Kubectl
from infra.update.cluster.pods import revision
from infra.update.cluster.progress import finished, reasons

_NUMBER = "deployment.kubernetes.io/revision"
_POLL_SECONDS = 2.0
#: Pulumi's provider takes over what other ways of kubectl set, and removes what the stack does not declare.
_MARKING = ("apply", "--server-side", "--field-manager=fleet-way-back", "--filename=-")


@dataclass(frozen=True)
class Change:
    """A Deployment's change by this update; `before` is the revision that was found good last, if any."""

    deployment: str
    selecting: dict[str, str]
    before: str | None
    now: str


def recorded(kubectl: Kubectl, deployment: str) -> str | None:
    """The revision of a Deployment's pods that was found good last. Raises ClusterError."""
    gate = kubectl.named("configmap", f"{deployment}{SUFFIX}")
    return None if gate is None else gate["data"].get(REVISION)


def rolled_back(kubectl: Kubectl, stack: dict[str, str]) -> dict[str, str]:
    """When updates that failed put back a stack's Deployments, by their names. Raises ClusterError."""
    return {
        each["metadata"]["name"]: when
        for each in kubectl.listed("deployments", stack)
        if (when := each["metadata"].get("annotations", {}).get(labels.ROLLED_BACK)) is not None
    }


def put_back(kubectl: Kubectl, change: Change, seconds: float) -> str:
    """Starts the pods of before, and waits until they are ready; returns what runs now, as a sentence."""
    name = change.deployment
    if change.before is None:
        return f"{name}: nothing ran before, so it stays as it is"
    if change.before == change.now:
        return f"{name}: its pods are those of before"
    try:
        number = _number(kubectl, change)
        if number is None:
            return f"{name}: stays as it is, because the cluster no longer has the pods' template of before"
        kubectl.run("rollout", "undo", f"deployment/{name}", f"--to-revision={number}")
        # The next update finds it, and sets the Deployment again even if the stack file is the same.
        kubectl.run(*_MARKING, given=json.dumps(_marked(name)))
        return _ready(kubectl, change, seconds)
    except ClusterError as error:
        return f"{name}: could not be put back: {error}"


def _marked(deployment: str) -> dict[str, Any]:
    """The part of a Deployment that says when its pods were put back."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    metadata = {"name": deployment, "annotations": {labels.ROLLED_BACK: when}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}


def _number(kubectl: Kubectl, change: Change) -> str | None:
    """The number under which the Deployment knows the template of before."""
    found: list[str] = [
        each["metadata"]["annotations"][_NUMBER]
        for each in kubectl.listed("replicasets", change.selecting)
        if revision(each["spec"]["template"]) == change.before
        and _NUMBER in each["metadata"].get("annotations", {})
    ]
    return max(found, key=int, default=None)


def _ready(kubectl: Kubectl, change: Change, seconds: float) -> str:
    end = time.monotonic() + seconds
    while True:
        deployment = kubectl.named("deployment", change.deployment)
        assert deployment is not None
        if finished(deployment):
            return f"{change.deployment}: runs again what was deployed before"
        if time.monotonic() > end:
            break
        time.sleep(_POLL_SECONDS)
    own = [pod for pod in kubectl.listed("pods", change.selecting) if revision(pod) == change.before]
    said = "; ".join(reasons(deployment, own)) or "its pods are not ready yet"
    return f"{change.deployment}: goes back to what was deployed before: {said}"
