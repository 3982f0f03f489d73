"""Nodes of different tasks: each loads its own models, and their tasks change under load without a failed
request."""

import json
import time
from contextlib import ExitStack
from functools import partial

import httpx2
import pytest

from tests.e2e.deployment import API_KEY, Site
from tests.e2e.lab.load import load

pytestmark = pytest.mark.long

#: Requests a second, by route. Speech recognition takes a core for a second, and the hosts share the cores.
RATES = {"asr": 0.5, "emotion": 5, "synthesis": 5}


def test_tasks_move_between_nodes_under_load(site: Site) -> None:
    first, second = site.node("gpu-1"), site.node("gpu-2")

    def change() -> str:
        with ExitStack() as stack:
            loads = {
                route: stack.enter_context(load(partial(site.request, route), rate=rate))
                for route, rate in RATES.items()
            }
            update = site.up().check()
            time.sleep(2)
        for route, seen in loads.items():
            assert not seen.failures, f"{route}: {seen.summary()}"
            print(f"{route}: {seen.summary()}")
        return update.output

    first["tasks"] = ["asr"]
    output = change()
    assert "no other node serves" not in output
    capabilities = {each.name: _capabilities(f"http://{each.address}:8800") for each in site.gpu_hosts()}
    assert capabilities["gpu-1"] == ["speech_recognition"]
    assert len(capabilities["gpu-2"]) == 3
    loaded = site.fleet.hosts["gpu-1"].docker("inspect", "--format", "{{.Args}}", "e2e-gpu-1-triton").stdout
    assert "--load-model=asr" in loaded
    assert "emotion" not in loaded

    first["tasks"] = list(RATES)
    change()
    second["tasks"] = ["emotion", "synthesis"]
    second["weight"] = 3
    assert "no other node serves" not in change()
    assert _capabilities(f"http://{site.fleet.hosts['gpu-2'].address}:8800") == [
        "emotion_detection",
        "synthesis_detection",
    ]
    nodes = {name: node["tasks"] for name, node in site.program.outputs()["nodes"].items()}
    assert nodes == {"gpu-1": ["asr", "emotion", "synthesis"], "gpu-2": ["emotion", "synthesis"]}
    assert _seen_by_the_doctor(site) == {
        "gpu-1": "runtime triton; tasks asr, emotion, synthesis",
        "gpu-2": "runtime triton; tasks emotion, synthesis",
    }

    first["tasks"] = ["emotion"]
    previewed = site.preview().check()
    assert "no node serves asr" in previewed.output
    assert '"synthesis"' in previewed.output, "the outputs of the preview show the tasks"
    del second["tasks"], second["weight"], first["tasks"]
    site.up().check()


def _capabilities(url: str) -> list[str]:
    answer = httpx2.get(f"{url}/api/v1/ai/info", headers={"Authorization": f"Bearer {API_KEY}"})
    return sorted(answer.json()["data"]["capabilities"])


def _seen_by_the_doctor(site: Site) -> dict[str, str]:
    """What the doctor's check of the settings says of each node."""
    site.program.configure(site.config)
    done = site.program.module("infra.doctor", "--stack", site.program.stack, "--json")
    findings = json.loads(done.stdout)["findings"]
    return {each["where"][0]: each["seen"] for each in findings if each["check"] == "settings"}
