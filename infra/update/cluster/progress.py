"""How far a Deployment's change is by what the API says, and when waiting is no use. Pure functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.kubernetes.state import condition, containers, refusal, why

#: Reasons of a container that waits which no waiting mends.
_HOPELESS = {"InvalidImageName", "ErrImageNeverPull"}
#: Those which may pass: a registry that is busy, a Secret that is on its way.
_STUBBORN = {
    "ImagePullBackOff",
    "ErrImagePull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
}
#: A container that ended so often will end again.
_MOST_ENDS = 3


def finished(deployment: Mapping[str, Any]) -> bool:
    """Whether all pods of a Deployment are of its present template, and serve."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        return False
    counted = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return counted == {wanted}


def hopeless(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str | None:
    """Why the change cannot succeed, however long one waits; None while it may. `pods` are the new ones."""
    for pod in pods:
        for container in containers(pod):
            waiting = container.get("state", {}).get("waiting", {}).get("reason")
            ended = int(container.get("restartCount", 0))
            if waiting in _HOPELESS or (not container.get("ready") and ended >= _MOST_ENDS):
                times = f", which ended {ended} times" if ended else ""
                return f"pod {pod['metadata']['name']}{times}: {why(pod)}"
    progress = condition(deployment, "Progressing")
    if progress.get("reason") == "ProgressDeadlineExceeded":
        return "; ".join([progress["message"], *reasons(deployment, pods)])
    return None


def stubborn(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str | None:
    """What stops the change and seldom passes by itself: images, Secrets, quotas, Pod Security."""
    for pod in pods:
        for container in containers(pod):
            if container.get("state", {}).get("waiting", {}).get("reason") in _STUBBORN:
                return f"pod {pod['metadata']['name']}: {why(pod)}"
    return refusal(deployment)


def reasons(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the new pods are not ready yet, in the words of the scheduler or the kubelet."""
    said = [reason for pod in pods if (reason := why(pod)) is not None]
    refused = refusal(deployment)
    return list(dict.fromkeys([*said, *([refused] if refused else [])]))
