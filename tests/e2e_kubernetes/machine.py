"""A machine with GPUs in the cluster, for its scheduler. It runs nothing, and reports its pods as ready.

So a test needs no kubelet and no image. It shows what API server, controllers and scheduler do, not what
containers do.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from tests.ports import free_port

_STATUS = {"Content-Type": "application/strategic-merge-patch+json"}


class Api:
    """The cluster's API, through `kubectl proxy`, whatever KUBECONFIG logs in with."""

    def __init__(self, port: int) -> None:
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def patch(self, path: str, body: dict[str, Any], kind: str = "strategic-merge-patch") -> None:
        headers = {"Content-Type": f"application/{kind}+json"}
        self.client.patch(path, json=body, headers=headers).raise_for_status()

    def put_status(self, path: str, status: dict[str, Any]) -> None:
        """Sets a status whole: a patch would mix the states of its containers."""
        present = self.get(path)
        self.client.put(f"{path}/status", json={**present, "status": status}).raise_for_status()

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        return list(self.get(f"/api/v1/namespaces/{namespace}/pods")["items"])


@contextlib.contextmanager
def api() -> Iterator[Api]:
    port = free_port()
    proxy = subprocess.Popen(
        ["kubectl", "proxy", f"--port={port}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert proxy.stdout is not None
        proxy.stdout.readline()
        yield Api(port)
    finally:
        proxy.terminate()
        proxy.wait()


class Machine:
    """A Node of the cluster with GPUs that are advertised as a device plugin does it."""

    def __init__(self, api: Api, name: str, gpus: int) -> None:
        self._api, self.name, self._gpus = api, name, gpus
        #: What the pods of a namespace are reported as; without an entry they run.
        self.reports: dict[str, Callable[[dict[str, Any], int], dict[str, Any]]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Machine:
        labels = {"kubernetes.io/hostname": self.name, "gpu-inference/e2e": "true"}
        made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name, "labels": labels}}
        self._api.client.post("/api/v1/nodes", json=made).raise_for_status()
        self._alive()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._api.client.delete(f"/api/v1/nodes/{self.name}")

    def _alive(self) -> None:
        amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": str(self._gpus)}
        ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now()}
        body = {"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}}
        self._api.patch(f"/api/v1/nodes/{self.name}/status", body)

    def _run(self) -> None:
        beats = 0
        while not self._stopping.wait(0.5):
            beats += 1
            with contextlib.suppress(httpx2.HTTPError):
                if beats % 10 == 0:
                    self._alive()
                found = self._api.get(f"/api/v1/pods?fieldSelector=spec.nodeName={self.name}")["items"]
                for number, pod in enumerate(found):
                    self._report(pod, number)

    def _report(self, pod: dict[str, Any], number: int) -> None:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
        if pod["metadata"].get("deletionTimestamp"):
            self._api.client.delete(f"{path}?gracePeriodSeconds=0")
        elif (report := self.reports.get(pod["metadata"]["namespace"])) is not None:
            self._api.put_status(path, report(pod, number))
        elif not _ready(pod):
            self._api.put_status(path, running(pod, number))


def _ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def running(pod: dict[str, Any], number: int) -> dict[str, Any]:
    """The status of a pod that runs and is ready."""

    def started(container: dict[str, Any]) -> dict[str, Any]:
        state = {"running": {"startedAt": now()}}
        named = {"name": container["name"], "image": container["image"], "imageID": container["image"]}
        return {**named, "ready": True, "started": True, "restartCount": 0, "state": state}

    kinds = ("PodScheduled", "Initialized", "ContainersReady", "Ready")
    return {
        "phase": "Running",
        "podIP": f"198.51.100.{number % 250 + 1}",
        "podIPs": [{"ip": f"198.51.100.{number % 250 + 1}"}],
        "startTime": now(),
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": now()} for kind in kinds],
        "containerStatuses": [started(each) for each in pod["spec"]["containers"]],
        "initContainerStatuses": [started(each) for each in pod["spec"].get("initContainers", [])],
    }


def now() -> str:
    """The time as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
