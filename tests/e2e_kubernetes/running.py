"""A stack whose pods run: its images, its models, its entrance, and the loss of a machine of the cluster.

Environment variables say what only the cluster's owner knows (docs/testing.md, "Pods that run"):

- `E2E_SERVICE_IMAGE`, `E2E_SERVICE_IMAGE_NEXT`: the inference service, and another image of it.
- `E2E_TRITON_IMAGE`, `E2E_NGINX_IMAGE`: Triton with the models' environment, and nginx.
- `E2E_MODELS_FOLDER`: a folder that this computer and all machines have (NFS). The tests write there.
- `E2E_MACHINE_OFF`, `E2E_MACHINE_ON`: commands that cut the power of a machine and give it again; the Node's
  name follows. Optional.
"""

from __future__ import annotations

import copy
import json
import os
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.deployment import API_KEY, WAV
from tests.e2e.lab.load import Load, load
from tests.e2e.lab.program import PROJECT, Program, Result
from tests.e2e_kubernetes.conftest import kubectl, made_namespace, volume_and_claim

NEEDED = (
    "E2E_SERVICE_IMAGE",
    "E2E_SERVICE_IMAGE_NEXT",
    "E2E_TRITON_IMAGE",
    "E2E_NGINX_IMAGE",
    "E2E_MODELS_FOLDER",
)
STACK = "pods"
#: The encoder/decoder pair is the same speech model once more, and its weights would cost memory.
MODELS = ("asr", "emotion", "emotion-text", "synthesis")
#: Small requests: the models of the tests need no more, and machines of tests are small.
RESOURCES = {"runtime": {"cpu": "100m", "memory": "400m"}, "service": {"cpu": "50m", "memory": "128m"}}


def missing() -> list[str]:
    """The variables that are not set."""
    return [name for name in NEEDED if not os.environ.get(name)]


@dataclass
class Running:
    """The stack file in its present state. Tests change `config` and call `up`."""

    program: Program
    config: dict[str, Any]
    namespace: str
    models: Path

    def __post_init__(self) -> None:
        self.first = copy.deepcopy(self.config)

    # the user's commands

    def preview(self) -> Result:
        self.program.configure(self.config)
        return self.program.preview()

    def up(self, *arguments: str) -> Result:
        self.program.configure(self.config)
        return self.program.up(*arguments)

    def change(self) -> Result:
        """Previews and applies the present stack file; the update does what the preview said."""
        previewed = self.preview().check()
        applied = self.up().check()
        assert applied.steps == previewed.steps
        return applied

    def fleet(self, *arguments: str) -> str:
        """What `fleet` prints on its standard output."""
        self.program.configure(self.config)
        command, *rest = arguments
        done = self.program.module("infra.cli", command, "-s", STACK, *rest, timeout=900)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # the cluster

    def kubectl(self, *arguments: str) -> str:
        return kubectl("-n", self.namespace, *arguments)

    def pods(self, part: str) -> list[dict[str, Any]]:
        """The pods of a pool, or of the gateway, that do not end."""
        found = json.loads(self.kubectl("get", "pods", f"--selector={_selector(part)}", "-o", "json"))[
            "items"
        ]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def ready(self, part: str) -> list[dict[str, Any]]:
        return [
            each
            for each in self.pods(part)
            if {"Ready": "True"}.items()
            <= {one["type"]: one["status"] for one in each["status"].get("conditions", [])}.items()
        ]

    def uids(self, part: str) -> set[str]:
        """The pods of a part that are there, those that end among them."""
        found = json.loads(self.kubectl("get", "pods", f"--selector={_selector(part)}", "-o", "json"))
        return {each["metadata"]["uid"] for each in found["items"]}

    def restarts(self) -> int:
        """How often the kubelets started containers of the stack's pods anew."""
        statuses = [
            status
            for part in ("l4", "gateway")
            for pod in self.pods(part)
            for kind in ("containerStatuses", "initContainerStatuses")
            for status in pod["status"].get(kind, [])
        ]
        return sum(status["restartCount"] for status in statuses)

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 180) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                said = self.kubectl("get", "pods", "-o", "wide")
                raise TimeoutError(f"not within {seconds:.0f} s: {what}\n{said}")
            time.sleep(0.5)

    # the entrance

    def machines(self) -> dict[str, str]:
        """The addresses of the machines that are ready and take pods, by name."""
        found = {}
        for node in json.loads(kubectl("get", "nodes", "-o", "json"))["items"]:
            conditions = {each["type"]: each["status"] for each in node["status"]["conditions"]}
            addresses = {each["type"]: each["address"] for each in node["status"].get("addresses", [])}
            if conditions.get("Ready") == "True" and not node["spec"].get("unschedulable"):
                found[node["metadata"]["name"]] = str(addresses["InternalIP"])
        return found

    def spread(self) -> None:
        """Sees to it that each part has its two pods on different machines."""
        for part in ("l4", "gateway"):
            pods = self.ready(part)
            if len({each["spec"]["nodeName"] for each in pods}) == 1:
                machine = pods[0]["spec"]["nodeName"]
                kubectl("cordon", machine)
                try:
                    self.kubectl("delete", "pod", pods[0]["metadata"]["name"], "--wait=false")
                    self.wait(f"{part} is on two machines", lambda part=part: len(self.ready(part)) == 2)
                finally:
                    kubectl("uncordon", machine)

    def entrance(self, machine: str | None = None) -> str:
        """The address of a machine, or of the first one."""
        machines = self.machines()
        return machines[machine or next(iter(machines))]

    def url(self, machine: str | None = None) -> str:
        """The HTTP entrance at a machine, or at the first one."""
        return f"http://{self.entrance(machine)}:{self.port('http')}"

    def port(self, name: str) -> int:
        """The gateway's port on every machine: `http` or `grpc`."""
        ports = json.loads(self.kubectl("get", "service", f"{STACK}-gateway", "-o", "json"))["spec"]["ports"]
        [found] = [each["nodePort"] for each in ports if each["name"] == name]
        return int(found)

    def request(self, url: str, route: str = "emotion") -> httpx2.Request:
        headers = {"Content-Type": "audio/wav", "Authorization": f"Bearer {API_KEY}"}
        return httpx2.Request("POST", f"{url}/api/v1/ai/{route}", content=WAV, headers=headers)

    @contextmanager
    def load(self, rate: float = 4, machine: str | None = None) -> Iterator[list[Load]]:
        """Half of the requests on connections that stay, half each on its own. At the end none has failed."""
        url = self.url(machine)
        with (
            load(lambda: self.request(url), rate=rate / 2) as kept,
            load(lambda: self.request(url), rate=rate / 2, keep_alive=False) as own,
        ):
            yield [kept, own]
        for each in (kept, own):
            print(each.summary())
            assert len(each.outcomes) >= 10
            assert not each.failures, each.summary()


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """A namespace of the restricted level, a claim with the models, and a stack that is not up yet."""
    images = {name: os.environ[name] for name in NEEDED}
    models = Path(images["E2E_MODELS_FOLDER"]) / f"e2e-{uuid.uuid4().hex[:8]}"
    for name in MODELS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / "model_repository" / name, models / "triton" / name, ignore=ignored)
    try:
        with made_namespace() as namespace, volume_and_claim(namespace, str(models)):
            program = Program(folder, STACK)
            made = Running(program, _config(images, namespace, models), namespace, models)
            try:
                yield made
            finally:
                program.destroy().check()
    finally:
        shutil.rmtree(models)


def _selector(part: str) -> str:
    return "app.kubernetes.io/component=gateway" if part == "gateway" else f"gpu-inference/pool={part}"


def machine_command(variable: str, machine: str) -> None:
    """Runs the owner's command that switches a machine off or on."""
    command: Sequence[str] = [*shlex.split(os.environ[variable]), machine]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def _config(images: dict[str, str], namespace: str, models: Path) -> dict[str, Any]:
    return {
        "target": "kubernetes",
        "kubernetes": {
            "kubeconfig": str(Path(os.environ["KUBECONFIG"]).resolve()),
            "namespace": namespace,
            # Each machine is an entrance, also one without a pod of the gateway.
            "service": {"type": "NodePort", "externalTrafficPolicy": "Cluster"},
            "gateway": {"replicas": 2, "cpu": "50m", "memory": "256m"},
        },
        "nodes": [{"name": "l4", "replicas": 2, "gpus": 1, "resources": RESOURCES}],
        "models": {"source": "claim://models/triton", "path": str(models / "triton"), "allowRules": True},
        "service": {"image": images["E2E_SERVICE_IMAGE"], "readOnly": True, "workers": 1},
        "triton": {"image": images["E2E_TRITON_IMAGE"]},
        "gateway": {"image": images["E2E_NGINX_IMAGE"], "rateLimit": False},
        "rollout": {"readyTimeoutSeconds": 300},
        "apiKeys": [API_KEY],
    }
