"""What kubelets report of pods that do not run, in their own words: statuses of containers, and events."""

from __future__ import annotations

from typing import Any

from tests.e2e_kubernetes.machine import now, running


def waiting(container: str, reason: str, message: str) -> dict[str, Any]:
    """A container that waits."""
    return {container: {"state": {"waiting": {"reason": reason, "message": message}}}}


def crashing(container: str, code: int, reason: str, restarts: int) -> dict[str, Any]:
    """A container that ends again and again."""
    ended = {"exitCode": code, "reason": reason, "startedAt": now(), "finishedAt": now()}
    words = f"back-off 5m0s restarting failed container={container}"
    return {
        container: {
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": words}},
            "lastState": {"terminated": ended},
            "restartCount": restarts,
        }
    }


def starting(container: str) -> dict[str, Any]:
    """A container that runs, and whose startup probe has not passed."""
    return {container: {"state": {"running": {"startedAt": now()}}, "started": False}}


def status(pod: dict[str, Any], number: int, ill: dict[str, Any], ip: str | None = None) -> dict[str, Any]:
    """The status of a pod whose containers in `ill` are as given there; those after them wait for them."""
    made = running(pod, number)
    held = False
    for kind in ("initContainerStatuses", "containerStatuses"):
        for each in made[kind]:
            if each["name"] in ill:
                each |= {"ready": False, "started": False, **ill[each["name"]]}
                held = held or kind.startswith("init")
            elif held:
                each |= {"ready": False, "started": False}
                each["state"] = {"waiting": {"reason": "PodInitializing"}}
    for each in made["conditions"]:
        if each["type"] in ("ContainersReady", "Ready"):
            each |= {"status": "False", "reason": "ContainersNotReady"}
    if ip is not None:
        made |= {"podIP": ip, "podIPs": [{"ip": ip}]}
    made["phase"] = "Pending" if held else "Running"
    return made


def event(pod: dict[str, Any], container: str, reason: str, message: str) -> dict[str, Any]:
    """An event of a kubelet's."""
    metadata = pod["metadata"]
    inits = [each["name"] for each in pod["spec"].get("initContainers", [])]
    kind = "spec.initContainers" if container in inits else "spec.containers"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
        "involvedObject": {
            "kind": "Pod",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "fieldPath": f"{kind}{{{container}}}",
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "source": {"component": "kubelet"},
        "firstTimestamp": now(),
        "lastTimestamp": now(),
        "count": 12,
    }
