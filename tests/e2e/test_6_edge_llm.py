"""A mixed fleet: an Edge-LLM node beside a Triton node behind one gateway. The unit manager is a protocol
double."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.deployment import Site
from tests.e2e.lab.images import SERVICE_BASE
from tests.e2e.lab.load import load


def build(dockerfile: str) -> dict[str, object]:
    return {"build": {"context": "tests", "dockerfile": dockerfile, "args": {"BASE_IMAGE": SERVICE_BASE}}}


@pytest.fixture(scope="module")
def mixed(deployed: Site) -> Iterator[Site]:
    """gpu-2 as an Edge-LLM node."""
    deployed.settle()
    deployed.node("gpu-2")["runtime"] = "edge-llm"
    deployed.config["edgeLlm"] = {
        "unitManager": build("e2e/edge_llm/unit-manager.Dockerfile"),
        "llmNode": build("e2e/edge_llm/llm-node.Dockerfile"),
    }
    # The double splits its input by line, as a fixed unit manager does, so frames need no delay.
    deployed.config["service"]["config"] = {
        "ai": {"request": {"audio_stream_chunk_delay_ms": 0, "audio_stream_chunk_size": 16384}}
    }
    deployed.up().check()
    yield deployed


def fields(answer: dict[str, object]) -> set[str]:
    """The names of an answer's fields, without those that only models with a card have."""
    return answer.keys() - {"kind", "caveat"}


def test_a_mixed_fleet_serves_the_same_shapes_on_every_node(mixed: Site) -> None:
    for route in ("asr", "synthesis"):
        shapes = [fields(mixed.ask(route, url=f"http://{host.address}:8800")) for host in mixed.gpu_hosts()]
        assert shapes[0] == shapes[1] == fields(mixed.ask(route))


def test_unit_manager_and_llm_node_share_tmp_and_publish_nothing(mixed: Site) -> None:
    host = mixed.fleet.hosts["gpu-2"]
    manager = next(name for name in host.containers() if "unit-manager" in name)
    assert host.docker("exec", manager, "test", "-d", "/tmp/llm").returncode == 0
    assert "->19001" not in host.docker("ps", "--format", "{{.Ports}}").stdout


def test_a_mixed_fleet_rolls_without_a_failed_request(mixed: Site) -> None:
    mixed.config["service"]["env"] = {"E2E_MARK": "mixed"}
    with load(lambda: mixed.request("synthesis"), rate=20) as seen:
        change = mixed.change()
    assert change.as_previewed()
    assert {host for host, name in change.touched if "service" in name} == {"gpu-1", "gpu-2"}
    assert not seen.failures, seen.summary()


def test_an_edge_llm_node_drains(mixed: Site) -> None:
    mixed.node("gpu-2")["drained"] = True
    with load(lambda: mixed.request("synthesis"), rate=20) as seen:
        change = mixed.change()
    assert change.touched == set()
    assert not seen.failures, seen.summary()
