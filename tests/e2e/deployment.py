"""The site that the end-to-end tests deploy: its stack file, its hosts, and helpers that query it."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.e2e.lab import speech
from tests.e2e.lab.fleet import Fleet
from tests.e2e.lab.host import Host
from tests.e2e.lab.images import NGINX_IMAGE, SERVICE_BASE, TRITON_BASE
from tests.e2e.lab.program import Program, Result

STACK = "e2e"
API_KEY = "e2e-key-0123456789"
WAV = speech.tone()
# The encoder/decoder pair is the same speech model in a second shape, and its weights would cost memory.
MODELS_LEFT_OUT = ("whisper-encoder", "whisper-decoder")


@dataclass
class Site:
    """The stack file in its present state, and the fleet and program that deploy it. Tests change `config`
    and call `up`."""

    fleet: Fleet
    program: Program
    config: dict[str, Any]

    def __post_init__(self) -> None:
        self.first = copy.deepcopy(self.config)
        self.first_up: Result | None = None

    def settle(self) -> None:
        """Restores the first stack file and deploys it."""
        self.config = copy.deepcopy(self.first)
        self.up().check()

    def mark(self, text: str, parts: Sequence[str] = ("triton", "service")) -> None:
        """Sets an environment variable of these parts of every node. Nothing reads it, and it replaces their
        containers. The mark stays after `settle`, because its removal would replace every container once
        more."""
        for config in (self.config, self.first):
            for part in parts:
                config[part]["env"] = {"E2E_MARK": text}

    @property
    def gateway(self) -> Host:
        return self.fleet.hosts["gateway"]

    @property
    def url(self) -> str:
        return f"http://{self.gateway.address}:8080"

    def node(self, name: str) -> dict[str, Any]:
        """A node's entry in the stack file."""
        return next(node for node in self.config["nodes"] if node["name"] == name)

    def gpu_hosts(self) -> list[Host]:
        return [self.fleet.hosts[node["name"]] for node in self.config["nodes"]]

    def preview(self) -> Result:
        self.program.configure(self.config)
        return self.program.preview()

    def up(self, *arguments: str) -> Result:
        self.program.configure(self.config)
        return self.program.up(*arguments)

    def change(self) -> Change:
        """Previews and applies the present stack file. Returns the steps and the containers before and
        after."""
        previewed = self.preview().check()
        before = self.containers()
        applied = self.up().check()
        return Change(previewed, applied, before, self.containers())

    def containers(self) -> dict[tuple[str, str], str]:
        """The id of every running container, by host and name."""
        return {
            (host.name, name): identity
            for host in self.fleet.hosts.values()
            for name, identity in host.containers(everything=True).items()
        }

    def request(self, route: str = "emotion", *, url: str | None = None) -> httpx2.Request:
        """A request with a second of audio for one of the audio routes."""
        return httpx2.Request(
            "POST",
            f"{url or self.url}/api/v1/ai/{route}",
            content=WAV,
            headers={"Content-Type": "audio/wav", "Authorization": f"Bearer {API_KEY}"},
        )

    def ask(self, route: str = "emotion", *, url: str | None = None) -> dict[str, Any]:
        """The `data` of a successful answer. Raises AssertionError with any other answer."""
        with httpx2.Client(timeout=30, trust_env=False) as client:
            answer = client.send(self.request(route, url=url))
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        return dict(json.loads(answer.text)["data"])

    def healthy(self, host: Host) -> bool:
        """Whether the health route of the node on that host answers 200."""
        with httpx2.Client(timeout=5, trust_env=False) as client:
            try:
                return client.get(f"http://{host.address}:8800/api/v1/ai/health").status_code == 200
            except httpx2.TransportError:
                return False


@dataclass
class Change:
    """One change of the site: the steps of the preview and of the update, and the containers before and
    after."""

    previewed: Result
    applied: Result
    before: dict[tuple[str, str], str]
    after: dict[tuple[str, str], str]

    @property
    def touched(self) -> set[tuple[str, str]]:
        """Host and name of every container that was created, deleted or replaced."""
        return {key for key in self.before | self.after if self.before.get(key) != self.after.get(key)}

    @property
    def touched_hosts(self) -> set[str]:
        return {host for host, _ in self.touched}

    def as_previewed(self) -> bool:
        return self.previewed.steps == self.applied.steps


def first_config(fleet: Fleet, program: Program) -> dict[str, Any]:
    """Two Triton nodes and a gateway. Images are built from the shipped Dockerfiles on the laboratory's base
    images."""
    nodes = [
        {"name": host.name, "host": host.url, "gpus": "all"} for host in fleet.hosts.values() if host.gpu
    ]
    return {
        "nodes": nodes,
        "triton": {"build": {"args": {"BASE_IMAGE": TRITON_BASE, "CUBLAS": ""}}},
        "service": {"build": {"args": {"BASE_IMAGE": SERVICE_BASE}}, "workers": 2},
        "models": {"source": "sync", "path": "./model_repository", "allowRules": True},
        "gateway": {"host": fleet.hosts["gateway"].url, "image": NGINX_IMAGE, "rateLimit": False},
        # Tests of the judgement turn it on: it costs seconds for every node that changes.
        "rollout": {"readyTimeoutSeconds": 60, "judge": False},
        "ssh": {
            "knownHosts": str(fleet.operator.known_hosts),
            "privateKeyFile": str(fleet.operator.key),
        },
        "apiKeys": program.encrypt(API_KEY),
    }
