"""The resources that a stack declares hold the rules of the fleet, tested without an engine."""

from __future__ import annotations

import copy
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from infra.gateway import entrance
from infra.models.files import ModelsError, versions
from infra.paths import PROJECT
from infra.stack import parse, parse_host
from infra.update.prepare import Away
from tests.infra.declared import Fleet, declare

HOSTS = [f"ssh://root@192.0.2.{number}" for number in (11, 12, 13, 14)]
KEY = "example-key-1"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two models; a test may change them."""
    for name in ("asr", "emotion"):
        (tmp_path / name / "1").mkdir(parents=True)
        (tmp_path / name / "config.pbtxt").write_text(f'name: "{name}"\n')
        (tmp_path / name / "1" / "model.py").write_text("# one\n")
    return tmp_path


def config(count: int = 3, **more: Any) -> dict[str, Any]:
    nodes = [{"name": f"gpu-{n}", "host": f"ssh://root@192.0.2.{10 + n}"} for n in range(1, count + 1)]
    return {"nodes": nodes, "service": {"image": "registry.example.com/service:1"}, **more}


def changed(before: Fleet, after: Fleet) -> set[str]:
    """The names of the resources that are new, gone, renamed for Pulumi, or have other inputs."""
    names = before.resources.keys() | after.resources.keys()
    return {
        name
        for name in names
        if name not in before
        or name not in after
        or before[name].urn != after[name].urn
        or before[name].inputs != after[name].inputs
    }


def is_down(address: str, fleet: Fleet) -> bool:
    """Whether the gateway sends no requests to a node."""
    text = fleet["gateway-config"].declaration["files"]["nginx.conf"]
    return bool(re.search(rf"server {re.escape(address)} .*\bdown;", text))


# Honest previews -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "words"),
    [
        (None, "models.allowRules: false turns their tasks off"),
        (False, "Their tasks answer 501 (models.allowRules: false)"),
    ],
)
def test_a_preview_warns_of_rules_and_a_lexicon(
    monkeypatch: pytest.MonkeyPatch, allowed: bool | None, words: str
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    models = {"source": "sync"} | ({} if allowed is None else {"allowRules": allowed})
    declare(config(1, service={"build": True}, models=models))
    (warning,) = said
    assert "emotion is a rule (a rule that hears arousal" in warning
    assert "emotion-text is a lexicon" in warning
    assert "synthesis is a rule" in warning
    assert "asr is" not in warning
    assert words in warning
    assert "python -m infra.models export" in warning


def test_a_preview_does_not_warn_of_models_that_it_does_not_know(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    declare(config(1))
    declare(config(1, models={"source": "sync", "path": str(repository)}))
    assert said == []


@pytest.mark.parametrize("name", ["a $(id>x) b", "asr (v2)"])
def test_a_preview_refuses_a_model_with_an_unfit_name(repository: Path, name: str) -> None:
    (repository / "asr").rename(repository / name)
    with pytest.raises(ModelsError, match=re.escape(repr(name))):
        declare(config(1, models={"source": "sync", "path": str(repository)}))


@pytest.mark.parametrize(
    ("triton", "warned"),
    [
        ({}, False),
        ({"build": True}, False),
        ({"image": "nvcr.io/nvidia/tritonserver:26.07-py3"}, False),
        ({"image": "nvcr.io/nvidia/tritonserver:26.06-py3"}, True),
        ({"image": "registry.example.com/tritonserver:24.10-trtllm-python-py3"}, True),
        ({"build": {"args": {"BASE_IMAGE": "nvcr.io/nvidia/tritonserver:25.06-py3"}}}, True),
        ({"image": "registry.example.com/own:1"}, False),
    ],
)
def test_a_preview_warns_of_a_triton_with_known_faults(
    monkeypatch: pytest.MonkeyPatch, triton: dict[str, Any], warned: bool
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    declare(config(1, triton=triton))
    assert ["has known faults" in each for each in said] == ([True] if warned else [])


# Preview tells the truth --------------------------------------------------------------------------------


def test_the_same_stack_declares_the_same_resources_twice() -> None:
    assert changed(declare(config()), declare(config())) == set()


def test_no_input_depends_on_where_the_project_lies() -> None:
    fleet = declare(config(service={}, models={"source": "sync"}))
    for resource in fleet.resources.values():
        assert str(PROJECT) not in json.dumps(resource.inputs), resource.name


def test_a_changed_service_changes_its_image_tag_and_so_replaces_its_containers(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY app /\n")
    (tmp_path / "app").write_text("one")
    stack = config(service={"build": {"context": str(tmp_path)}})
    before = declare(stack)
    (tmp_path / "app").write_text("two")
    after = declare(stack)
    assert before["gpu-1-service"].inputs["image"] != after["gpu-1-service"].inputs["image"]
    services = {f"gpu-{n}-{part}" for n in (1, 2, 3) for part in ("service", "turn")}
    assert {name for name in changed(before, after) if "-image@" not in name} == services


# Minimal ------------------------------------------------------------------------------------------------


def test_a_nodes_gpu_list_touches_that_nodes_runtime_only() -> None:
    stack = config()
    before = declare(stack)
    stack["nodes"][1]["gpus"] = [0, 1]
    assert changed(before, declare(stack)) == {"gpu-2-triton", "gpu-2-turn"}


def test_draining_a_node_touches_the_gateways_configuration_only() -> None:
    stack = config()
    before = declare(stack)
    stack["nodes"][1]["drained"] = True
    after = declare(stack)
    assert changed(before, after) == {"gateway-config", "gateway-traffic"}
    assert is_down("192.0.2.12:8800", after)


def test_a_changed_model_is_copied_alone_and_containers_stay(repository: Path) -> None:
    stack = config(2, models={"source": "sync", "path": str(repository)})
    before = declare(stack)
    (repository / "emotion" / "1" / "model.py").write_text("# two\n")
    versions.cache_clear()
    touched = changed(before, declare(stack))
    assert touched == {
        f"gpu-{n}-{what}" for n in (1, 2) for what in ("model-emotion", "models-in-use", "ready", "tried")
    }


def test_a_node_whose_host_changes_is_made_anew_there_and_only_then_deleted_here(repository: Path) -> None:
    stack = config(2, models={"source": "sync", "path": str(repository)})
    before = declare(stack)
    stack["nodes"][1]["host"] = "ssh://root@192.0.2.99"
    after = declare(stack)
    of_node = {name for name in before.resources if name.startswith("gpu-2-")}
    assert {name for name in changed(before, after) if name.startswith("gpu-2-")} == of_node
    assert all(before[name].urn != after[name].urn for name in of_node), (
        "Pulumi deletes what it replaces first"
    )


@pytest.mark.parametrize("same", ["ssh://deploy@192.0.2.12", "ssh://root@192.0.2.12:22"])
def test_another_way_to_log_in_moves_nothing(same: str) -> None:
    stack = config(2)
    before = declare(stack)
    stack["nodes"][1]["host"] = same
    after = declare(stack)
    assert not [r for r in after.of(":Container") if before[r.name].urn != r.urn]
    assert not {resource.name for resource in after.of(":Container")} & changed(before, after)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ssh://root@gpu-1.example.com", "ssh://root@gpu.1-example.com"),
        ("ssh://root@gpu-1", "ssh://root@GPU-1"),
        ("ssh://root@gpu-1", "ssh://root@gpu-1:22"),
        ("ssh://root@[2001:db8::1]", "ssh://root@[2001:db8::1:0:1]"),
        ("unix:///run/a-b.sock", "unix:///run/a/b.sock"),
    ],
)
def test_hosts_with_similar_addresses_are_different_resources(one: str, other: str) -> None:
    ports = {"http": 8810, "grpc": 9810}
    fleet = declare(
        config(0) | {"nodes": [{"name": "a", "host": one}, {"name": "b", "host": other, "ports": ports}]}
    )
    assert len(fleet.of("providers:docker")) == 2
    assert all(resource.urn.count("::") == 3 for resource in fleet.resources.values())


def test_the_types_of_components_name_no_machine(repository: Path) -> None:
    stack = config(
        1, models={"source": "sync", "path": str(repository)}, gateway={"host": "ssh://root@192.0.2.1"}
    )
    embedded = {"nodes": [{"name": "dev-1", "host": "embedded"}], "gateway": {"mode": "embedded"}}
    types = {kind for fleet in (declare(stack), declare(embedded)) for kind, _ in fleet.components.values()}
    assert {kind for kind in types if kind.startswith("gpu-inference:")} == {
        f"gpu-inference:index:{name}"
        for name in (
            *("Fleet", "Host", "PreparedNode", "NodeModels", "Node", "Gateway"),
            *("EmbeddedNode", "EmbeddedGateway"),
        )
    }


def test_a_gateway_whose_host_or_mode_changes_is_made_anew_before_the_old_one_is_deleted() -> None:
    before = declare(config(gateway={"host": "ssh://root@192.0.2.1"}))
    moved = declare(config(gateway={"host": "ssh://root@192.0.2.2"}))
    for name in ("gateway", "gateway-network", "gateway-config"):
        assert before[name].urn != moved[name].urn
    existing = declare(config(gateway={"host": "ssh://root@192.0.2.1", "mode": "existing"}))
    assert "gateway-servers" in existing
    assert "gateway-config" not in existing


def test_a_changed_size_of_the_shared_memory_is_another_volume() -> None:
    before = declare(config(1))
    after = declare(config(1, triton={"shmSize": "2g"}))
    assert changed(before, after) >= {"gpu-1-shm-1g", "gpu-1-shm-2g", "gpu-1-triton", "gpu-1-service"}
    names = {fleet.of(":Volume")[0].inputs["name"] for fleet in (before, after)}
    assert len(names) == 2, "Docker has no volume to replace while it is in use"


def test_an_added_node_leaves_the_others_as_they_are() -> None:
    before, after = declare(config(2)), declare(config(3))
    assert {name for name in changed(before, after) if "gpu-3" not in name and "192.0.2.13" not in name} == {
        "gateway-config",
        "gateway-traffic",
    }


def test_a_gateway_setting_touches_the_gateway_only() -> None:
    before = declare(config(models={"source": "host"}, gateway={"http": 8080}))
    limited = declare(config(gateway={"rateLimit": {"requestsPerSecond": 5}}))
    assert changed(before, limited) == {"gateway-config"}
    assert changed(before, declare(config(gateway={"http": 8085}))) == {"gateway", "gateway-answers"}


# Rolling ------------------------------------------------------------------------------------------------


def test_traces_change_the_service_its_image_and_triton_of_every_node() -> None:
    service = {"build": True}
    before = declare(config(2, service=service))
    after = declare(config(2, service=service, traces={"endpoint": "http://192.0.2.30:4318"}))
    nodes = {"gpu-1-service", "gpu-1-triton", "gpu-2-service", "gpu-2-triton"}
    assert nodes <= changed(before, after)
    triton, traced = after["gpu-1-triton"].inputs, after["gpu-1-service"].inputs
    assert "--trace-config=opentelemetry,url=http://192.0.2.30:4318/v1/traces" in triton["command"]
    assert "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=2s" in triton["envs"]
    assert any('"endpoint": "http://192.0.2.30:4318"' in variable for variable in traced["envs"])
    [image] = [each for each in after.of(":Image") if each.name.startswith("service-image")]
    assert image.inputs["build"]["args"] == {"REQUIREMENTS": "service-otel"}
    assert traced["image"] == image.inputs["imageName"] != before["gpu-1-service"].inputs["image"]


def test_every_container_waits_for_its_nodes_turn_whatever_changes(repository: Path) -> None:
    before = declare(config(2))
    changes: list[dict[str, Any]] = [
        {"service": {"image": "registry.example.com/service:2"}},
        {"service": {"image": "registry.example.com/service:1", "env": {"A": "b"}}},
        {"service": {"image": "registry.example.com/service:1", "maxConcurrency": 3}},
        {"triton": {"memory": "8g"}},
        {"ports": {"http": 8811}},
        {"apiKeys": [KEY]},
        {"models": {"source": "sync", "path": str(repository)}},
    ]
    for change in changes:
        after = declare(config(2, **change))
        containers = {name for name in changed(before, after) if name.endswith(("-triton", "-service"))}
        assert containers, change
        for name in containers:
            turn = f"{name.rpartition('-')[0]}-turn"
            assert before[turn].inputs["triggers"] != after[turn].inputs["triggers"], change
            assert turn in after.after(name)
    assert KEY not in declare(config(2, apiKeys=[KEY]))["gpu-1-turn"].in_clear


def test_the_turn_of_an_edge_llm_node_waits_for_none_of_its_containers() -> None:
    stack = config(2, edgeLlm={part: {"image": f"{part}:1"} for part in ("unitManager", "llmNode")})
    for node in stack["nodes"]:
        node["runtime"] = "edge-llm"
    fleet = declare(stack)
    assert not {"gpu-1-unit-manager", "gpu-1-llm-node"} & fleet.after("gpu-1-turn")
    assert "gpu-1-turn" in fleet.after("gpu-1-unit-manager")


def test_nodes_that_do_not_answer_change_first() -> None:
    fleet = declare(config(3), sick=frozenset({"gpu-3"}))
    assert "gpu-3-ready" in fleet.after("gpu-1-triton")
    assert "gpu-1-ready" in fleet.after("gpu-2-triton")
    assert fleet["gpu-3-recovery"].ignore_changes == ()
    assert fleet["gpu-1-recovery"].ignore_changes == ("environment",)


def test_nodes_that_return_get_traffic_before_the_first_node_changes() -> None:
    stack = config(3)
    stack["nodes"][2]["drained"] = True
    fleet = declare(stack)
    assert "gateway-traffic" in fleet.after("gpu-1-triton")
    assert "gpu-1-ready" not in fleet.after("gateway-traffic")
    assert [node["node"] for node in fleet["gateway-traffic"].declaration["nodes"]] == ["gpu-1", "gpu-2"]
    assert "gateway-traffic" in fleet.after("gateway-config"), "which is written after it, whatever it did"


def test_nodes_that_return_behind_an_embedded_gateway_get_traffic_first_too() -> None:
    stack = config(2, gateway={"mode": "embedded"})
    stack["nodes"][1]["drained"] = True
    stack["nodes"].append({"name": "dev-1", "host": "embedded"})
    fleet = declare(stack)
    declared = fleet["gateway-traffic"].declaration
    assert [node["node"] for node in declared["nodes"]] == ["gpu-1"]
    assert declared["embedded"] == {"dev-1": "http://127.0.0.1:8800/api/v1/ai/health"}
    assert "gateway-traffic" in fleet.after("gpu-1-triton")
    assert "PUT_BACK" in fleet["gateway-process"].inputs["environment"], "it is applied after that, too"


def test_a_gateway_that_is_away_puts_no_node_back() -> None:
    stack = config(gateway={"host": "ssh://root@192.0.2.1"})
    everything = declare(stack)
    gateway = Away(frozenset({parse_host("ssh://root@192.0.2.1")}), (), everything.state)
    assert "gateway-traffic" not in declare(stack, gateway)


def test_containers_wait_for_the_health_of_the_batch_before_them() -> None:
    fleet = declare(config(4, rollout={"canary": 1, "batch": 2}))
    for name in ("gpu-2-triton", "gpu-3-service"):
        assert "gpu-1-ready" in fleet.after(name)
        assert not {"gpu-2-ready", "gpu-3-ready"} & fleet.after(name), "one batch changes together"
    assert {"gpu-2-ready", "gpu-3-ready"} <= fleet.after("gpu-4-triton")


def test_what_is_prepared_waits_for_no_node_and_every_container_waits_for_it(repository: Path) -> None:
    fleet = declare(config(3, models={"source": "sync", "path": str(repository)}))
    prepared = [
        resource.name
        for resource in fleet.resources.values()
        if resource.type.endswith((":Network", ":Volume", ":RemoteImage", ":Image"))
        or "-model-" in resource.name
    ]
    assert len(prepared) == 3 * (1 + 2 + 2 + 2) + 3
    for name in prepared:
        assert not any(before.endswith("-ready") for before in fleet.after(name)), name
    for name in prepared:
        if not name.startswith("gateway-"):
            assert name in fleet.after("gpu-1-triton"), name


def test_a_node_is_ready_by_its_own_health_route_whenever_a_container_of_it_is_new() -> None:
    ready = declare(config())["gpu-2-ready"]
    assert ready.declaration["url"].endswith("/api/v1/ai/health")
    assert ready.declaration["service"] == "prod-gpu-2-service"
    assert ready.inputs["triggers"][:2] == ["gpu-2-triton@192.0.2.12-id", "gpu-2-service@192.0.2.12-id"]


def test_docker_checks_the_gateways_health() -> None:
    test = declare(config())["gateway"].inputs["healthcheck"]["tests"]
    assert "http://127.0.0.1:8080/health" in test[-1]


def test_new_nodes_get_traffic_when_they_are_healthy() -> None:
    assert {"gpu-1-ready", "gpu-2-ready", "gpu-3-ready"} <= declare(config()).after("gateway-config")


def test_containers_end_before_their_successors_begin_and_have_time_to_finish() -> None:
    fleet = declare(config(service={"image": "service:1", "shutdownGraceSeconds": 45}))
    for resource in fleet.of(":Container"):
        assert resource.delete_before_replace, resource.name
        assert resource.inputs["stopTimeout"] == resource.inputs["destroyGraceSeconds"]
    assert fleet["gpu-1-service"].inputs["stopTimeout"] > 45
    assert fleet["gpu-1-triton"].inputs["stopTimeout"] > 45
    assert "--exit-timeout-secs=45" in fleet["gpu-1-triton"].inputs["command"]
    settings = yaml.safe_load(fleet["gpu-1-service"].inputs["uploads"][0]["content"])
    assert settings["server"]["shutdown_grace"] == 45


@pytest.mark.parametrize(
    ("settings", "grace"),
    [({}, 150), ({"timeout": "10m"}, 600), ({"timeout": 20.5}, 21), ({"timeout": 7200}, 3600)],
)
def test_a_node_that_stops_has_as_long_as_a_request_may_take(settings: dict[str, Any], grace: int) -> None:
    given = {"image": "service:1", "config": {"ai": {"request": settings}}}
    stack = parse({"nodes": ["ssh://root@192.0.2.11"], "service": given})
    assert stack.service.shutdown_grace_seconds == grace
    assert entrance.site(stack).answer_seconds >= grace


def test_a_changed_runtime_replaces_the_service_which_stops_before_it() -> None:
    fleet = declare(config())
    service = fleet["gpu-1-service"]
    assert service.replace_with == ("gpu-1-triton",)
    assert service.delete_before_replace
    assert "gpu-1-triton" in fleet.after("gpu-1-service")


def test_a_change_that_docker_cannot_make_in_place_makes_another_container() -> None:
    for resource in declare(config()).of(":Container"):
        assert {"mounts", "healthcheck", "init", "labels"} <= set(resource.replace_on_changes), resource.name


# Hosts that cannot be reached ---------------------------------------------------------------------------


def away(deployed: Fleet | None = None) -> Away:
    """gpu-2's host is out of reach; what is `deployed` is in the state."""
    return Away(frozenset({parse_host(HOSTS[1])}), ("gpu-2",), deployed.state if deployed else [])


def before_0_1(fleet: Fleet) -> list[dict[str, Any]]:
    """The state that the release before 0.1.0 would have written for the fleet."""
    entries: dict[str, dict[str, Any]] = {}
    urns = {each.urn: each.aliases[0] for each in fleet.resources.values() if each.aliases}
    for entry in fleet.state:
        if entry["urn"] not in urns:
            continue  # A component, or what that release did not have.
        stack, kinds, name = urns[entry["urn"]].rsplit("::", 2)
        kind = kinds.rpartition("$")[0]
        component = {"Host": name.rpartition("-")[0], "Gateway": "gateway"}.get(kind.split(":")[-1], name[:5])
        if kind.endswith(":Host"):
            component = re.sub("-(docker|(triton|service)-image)$", "", name)
        parent = f"{stack}::{kind}::{component}"
        entries[parent] = {"urn": parent, "type": kind, "custom": False}
        provider = entry["provider"].rpartition("::")[0]
        entries[urns[entry["urn"]]] = {
            **entry,
            "urn": urns[entry["urn"]],
            "parent": parent,
            "provider": f"{urns[provider]}::id" if provider else "",
            "dependencies": [],
        }
    return list(entries.values())


def test_all_of_a_skipped_host_is_left_exactly_as_it_stands() -> None:
    stack = config()
    everything = declare(stack)
    skipped = declare(stack, away(everything))
    assert skipped.resources.keys() == everything.resources.keys()
    left = {name for name, resource in skipped.resources.items() if resource.ignore_changes == ("*",)}
    assert left == {
        "docker@root@192.0.2.12",
        "triton-image@root@192.0.2.12",
        "service-image@root@192.0.2.12",
        "gpu-2-network",
        "gpu-2-shm-1g",
        "gpu-2-engines",
        "gpu-2-triton",
        "gpu-2-service",
        "gpu-2-ready",
        "gpu-2-recovery",
        "gpu-2-tried",
        "gpu-2-turn",
    }
    assert skipped.outputs["skipped"] == ["gpu-2"]
    assert is_down("192.0.2.12:8800", skipped)
    assert not is_down("192.0.2.13:8800", skipped)


def test_what_an_older_release_deployed_on_a_skipped_host_is_left_exactly_as_it_stands() -> None:
    everything = declare(config())
    skipped = declare(config(), Away(frozenset({parse_host(HOSTS[1])}), ("gpu-2",), before_0_1(everything)))
    left = {each.urn for each in skipped.resources.values() if each.ignore_changes == ("*",)}
    node = "urn:pulumi:prod::gpu-inference::gpu-inference:at-192-0-2-12:Node"
    host = "urn:pulumi:prod::gpu-inference::gpu-inference:index:Host"
    assert left == {
        f"{host}$pulumi:providers:docker::root-192-0-2-12-docker",
        f"{host}$docker:index/remoteImage:RemoteImage::root-192-0-2-12-triton-image",
        f"{host}$docker:index/remoteImage:RemoteImage::root-192-0-2-12-service-image",
        f"{node}$docker:index/network:Network::gpu-2-network",
        f"{node}$docker:index/volume:Volume::gpu-2-shm-1g",
        f"{node}$docker:index/volume:Volume::gpu-2-engines",
        f"{node}$docker:index/container:Container::gpu-2-triton",
        f"{node}$docker:index/container:Container::gpu-2-service",
        f"{node}$command:local:Command::gpu-2-ready",
    }


def test_an_image_built_on_a_skipped_host_is_not_declared_because_its_provider_would_build_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    stack = config(service={"build": {"context": str(tmp_path)}}, images={"build": "everywhere"})
    everything = declare(stack)
    skipped = declare(stack, away(everything))
    assert "service-image@root@192.0.2.12" in everything
    assert "service-image@root@192.0.2.12" not in skipped
    assert "gpu-2-service" in skipped


def test_a_skipped_node_is_no_canary_and_no_part_of_a_batch() -> None:
    stack = config(4, rollout={"canary": 1, "batch": 2, "unreachable": "skip"})
    everything = declare(stack)
    first = Away(frozenset({parse_host(HOSTS[0])}), ("gpu-1",), everything.state)
    skipped = declare(stack, first)
    assert "gpu-2-ready" in skipped.after("gpu-3-triton"), "gpu-2 is the canary"
    assert "gpu-2-ready" in skipped.after("gpu-4-triton")
    assert "gpu-3-ready" not in skipped.after("gpu-4-triton")
    assert "gpu-1-ready" not in skipped.after("gpu-2-triton")


def test_nothing_is_made_on_a_skipped_host_that_a_node_was_moved_to() -> None:
    stack = config()
    stack["nodes"][1]["host"] = "ssh://root@192.0.2.99"
    elsewhere = declare(stack)
    assert not [name for name in declare(config(), away(elsewhere)).resources if name.startswith("gpu-2-")]


def test_a_skipped_host_that_was_never_deployed_gets_no_resource() -> None:
    skipped = declare(config(), away())
    assert not [
        resource.name
        for resource in skipped.resources.values()
        if ("gpu-2" in resource.name or "192.0.2.12" in resource.name)
        and not resource.type.startswith("gpu-inference:")
    ]
    assert "gpu-1-ready" in skipped.after("gpu-3-triton"), "the chain goes on over the gap"


# Traffic ------------------------------------------------------------------------------------------------


def test_a_nodes_service_listens_for_other_hosts() -> None:
    ports = declare(config(1))["gpu-1-service"].inputs["ports"]
    assert [(port["internal"], port["external"], port["ip"]) for port in ports] == [
        (8800, 8800, "0.0.0.0"),
        (9800, 9800, "0.0.0.0"),
    ]


def test_the_gateways_container_ends_by_the_signal_that_lets_nginx_finish_requests() -> None:
    # At SIGTERM, Docker's default signal, nginx drops them.
    assert declare(config())["gateway"].inputs["stopSignal"] == "SIGQUIT"


def test_the_gateway_gives_up_a_host_that_is_cut_off_within_seconds() -> None:
    limits = {key: int(value) for key, value in declare(config())["gateway"].inputs["sysctls"].items()}
    # The kernel sends again after 0.2 s, 0.4 s, …: with 4 repetitions it gives up after 6 s; its default,
    # 15, takes a quarter of an hour.
    assert 0 < limits["net.ipv4.tcp_retries2"] <= 4
    idle = limits["net.ipv4.tcp_keepalive_time"]
    probes = limits["net.ipv4.tcp_keepalive_intvl"] * limits["net.ipv4.tcp_keepalive_probes"]
    assert idle + probes <= 15


# Least privilege ----------------------------------------------------------------------------------------


def test_containers_have_least_privilege_bounded_logs_restarts_and_an_init() -> None:
    fleet = declare(config())
    assert len(fleet.of(":Container")) == 7
    for resource in fleet.of(":Container"):
        given = resource.inputs
        assert given["capabilities"]["drops"] == ["ALL"]
        assert given["securityOpts"] == ["no-new-privileges:true"]
        assert given["logOpts"] == {"max-size": "10m", "max-file": "3"}
        assert given["restart"] == "unless-stopped"
        assert given["init"] is True
        assert "privileged" not in given
        if resource.name != "gateway":
            assert "adds" not in given["capabilities"]
            assert given["user"] == "1000:1000"
            assert given["healthcheck"]["tests"]


def test_a_nodes_ports_are_open_on_all_addresses_or_on_the_one_that_it_names() -> None:
    stack = config(2, triton={"publish": True})
    stack["nodes"][1]["bind"] = "192.0.2.112"
    fleet = declare(stack)

    def addresses(node: str) -> set[str]:
        parts = (fleet[f"{node}-{part}"].inputs["ports"] for part in ("service", "triton"))
        return {port["ip"] for ports in parts for port in ports}

    assert addresses("gpu-1") == {"0.0.0.0"}
    assert addresses("gpu-2") == {"192.0.2.112"}


def test_tritons_ports_are_published_only_when_asked_for() -> None:
    assert declare(config())["gpu-1-triton"].inputs["ports"] == []
    published = declare(config(triton={"publish": True}))["gpu-1-triton"].inputs["ports"]
    assert [(port["internal"], port["external"]) for port in published] == [
        (8000, 8000),
        (8001, 8001),
        (8002, 8002),
    ]


def test_the_shared_memory_is_not_empty_when_the_services_container_is_made() -> None:
    # Docker would give the volume the mode of that image's folder, which Triton's user cannot write to.
    fleet = declare(config(1))
    shell, option, script = fleet["gpu-1-triton"].inputs["command"][:3]
    assert (shell, option) == ("sh", "-c")
    assert script.startswith(": >/dev/shm/")
    assert "gpu-1-triton" in fleet.after("gpu-1-service")


def test_engines_of_a_nodes_gpus_outlive_its_triton() -> None:
    fleet = declare(config(1))
    mount = {"type": "volume", "source": fleet["gpu-1-engines"].inputs["name"], "target": "/var/tmp"}
    assert mount in fleet["gpu-1-triton"].inputs["mounts"]
    assert "gpu-1-engines" in fleet.after("gpu-1-triton")


def test_a_node_without_gpus_has_no_volume_for_engines() -> None:
    stack = config(1)
    stack["nodes"][0]["gpus"] = "none"
    assert "gpu-1-engines" not in declare(stack).resources


@pytest.mark.parametrize("gpus", ["all", "none"])
def test_a_node_that_builds_engines_has_more_time_to_become_ready(repository: Path, gpus: str) -> None:
    accelerator = 'execution_accelerators { gpu_execution_accelerator: [{ name: "tensorrt" }] }'
    stack = config(1, models={"source": "sync", "path": str(repository)})
    stack["nodes"][0]["gpus"] = gpus
    ready = declare(stack)["gpu-1-ready"].declaration
    assert (ready["timeout"], ready["engines"]) == (300, [])

    (repository / "asr" / "config.pbtxt").write_text(
        f'backend: "onnxruntime" optimization {{ {accelerator} }}'
    )
    versions.cache_clear()
    fleet = declare(stack)
    ready = fleet["gpu-1-ready"].declaration
    building = gpus == "all"
    assert (ready["timeout"], ready["engines"]) == ((2100, ["asr"]) if building else (300, []))
    start = fleet["gpu-1-triton"].inputs["healthcheck"]["startPeriod"]
    assert start == ("30m0s" if building else "2m0s")


def test_models_are_mounted_read_only(repository: Path) -> None:
    on_host = declare(config(models={"source": "host", "path": "/data/models"}))["gpu-1-triton"].inputs[
        "mounts"
    ]
    assert {"type": "bind", "source": "/data/models", "target": "/models", "readOnly": True} in on_host
    synced = declare(config(models={"source": "sync", "path": str(repository)}))["gpu-1-triton"]
    binds = [mount for mount in synced.inputs["mounts"] if mount["type"] == "bind"]
    assert len(binds) == 2
    assert all(mount["readOnly"] for mount in binds)


@pytest.mark.parametrize(
    ("gpus", "requests"),
    [
        ("all", [{"driver": "nvidia", "count": -1, "capabilities": ["gpu"]}]),
        ([0, 2], [{"driver": "nvidia", "deviceIds": ["0", "2"], "capabilities": ["gpu"]}]),
        ("none", None),
    ],
)
def test_gpus_are_asked_for_all_by_index_or_not_at_all(gpus: object, requests: object) -> None:
    stack = config(1)
    stack["nodes"][0]["gpus"] = gpus
    assert declare(stack)["gpu-1-triton"].inputs.get("deviceRequests") == requests


def test_memory_is_limited_and_a_key_sets_the_limit_or_turns_it_off() -> None:
    service = {"image": "service:1", "memory": False}
    fleet = declare(config(1, triton={"memory": "16g"}, service=service))
    assert fleet["gpu-1-triton"].inputs["memory"] == 16 * 1024
    assert "memory" not in fleet["gpu-1-service"].inputs
    fleet = declare(config(1))
    assert fleet["gpu-1-triton"].inputs["memory"] == 32 * 1024
    assert fleet["gpu-1-service"].inputs["memory"] == 16 * 1024


def test_the_readiness_step_limits_processes_and_threads_by_container() -> None:
    fleet = declare(config(1, triton={"pidsLimit": False}))
    assert fleet["gpu-1-ready"].declaration["pids"] == {"prod-gpu-1-service": 8192}


def test_roots_are_read_only_and_what_is_written_is_in_memory_or_in_volumes() -> None:
    fleet = declare(config(1, service={}))
    service, triton, gateway = (fleet[name].inputs for name in ("gpu-1-service", "gpu-1-triton", "gateway"))
    assert all(each["readOnly"] for each in (service, triton, gateway))
    assert service["tmpfs"].keys() == {"/tmp"}
    assert triton["tmpfs"].keys() == {"/tmp"}, "/var/tmp is the volume of engines"
    assert {"/dev/shm", "/var/tmp"} <= {mount["target"] for mount in triton["mounts"]}
    assert "/var/cache/nginx" in {mount["target"] for mount in gateway["mounts"]}, "bodies are on disk"
    on_cpu = config(1, service={})
    on_cpu["nodes"][0]["gpus"] = "none"
    assert declare(on_cpu)["gpu-1-triton"].inputs["tmpfs"].keys() == {"/tmp", "/var/tmp"}


def test_a_service_with_a_read_only_root_has_its_settings_in_its_environment() -> None:
    own = declare(config(1, service={}))["gpu-1-service"].inputs
    [settings] = [each for each in own["envs"] if each.startswith("AI_CONFIG_TEXT=")]
    assert json.loads(settings.partition("=")[2])["server"]["workers"] == 1
    assert "uploads" not in own, "Docker refuses files for such a container"
    # An image of somebody else's service may be one that does not know the variable.
    other = declare(config(1))["gpu-1-service"].inputs
    assert not other["readOnly"]
    assert "AI_CONFIG=/etc/ai-inference-service.yaml" in other["envs"]
    assert not any(each.startswith("AI_CONFIG_TEXT") for each in other["envs"])
    newer = {"image": "registry.example.com/service:2", "readOnly": True}
    assert declare(config(1, service=newer))["gpu-1-service"].inputs["readOnly"]


def test_edge_llm_images_keep_a_root_that_can_be_written_unless_the_stack_says_otherwise() -> None:
    edge = {"unitManager": {**EDGE["unitManager"], "readOnly": True}, "llmNode": EDGE["llmNode"]}
    stack = config(1, edgeLlm=edge)
    stack["nodes"][0]["runtime"] = "edge-llm"
    fleet = declare(stack)
    assert fleet["gpu-1-unit-manager"].inputs["readOnly"]
    assert not fleet["gpu-1-llm-node"].inputs["readOnly"]


def test_ssh_host_keys_are_always_checked() -> None:
    ssh = {"knownHosts": "./known_hosts", "privateKeyFile": "~/.ssh/gpu", "proxyJump": "bastion.example.com"}
    fleet = declare(config(1, ssh=ssh))
    options = json.loads(fleet["docker@root@192.0.2.11"].inputs["sshOpts"])
    given = fleet["gpu-1-ready"].declaration["connection"]["options"]
    for each in (options, given):
        assert "StrictHostKeyChecking=yes" in each
        assert any("ssh " in option and "bastion.example.com -W" in option for option in each)
        assert "~/.ssh/gpu" in each


def test_secrets_are_secrets_and_only_where_they_are_needed() -> None:
    fleet = declare(config(apiKeys=[KEY], gateway={"mode": "container"}))
    holders = {resource.name for resource in fleet.resources.values() if KEY in json.dumps(resource.inputs)}
    assert holders == {"gpu-1-service", "gpu-2-service", "gpu-3-service", "gateway-config"}
    for name in holders:
        assert KEY not in fleet[name].in_clear, name
    assert KEY not in json.dumps(fleet.outputs)


def test_an_object_stores_credentials_are_tritons_alone() -> None:
    models = {"source": "s3://bucket/models", "credentials": {"AWS_SECRET_ACCESS_KEY": "hush-hush"}}
    fleet = declare(config(1, models=models))
    triton = fleet["gpu-1-triton"]
    assert "AWS_SECRET_ACCESS_KEY=hush-hush" in triton.inputs["envs"]
    assert "envs" in triton.secrets
    assert "--model-repository=s3://bucket/models" in triton.inputs["command"]
    assert [r.name for r in fleet.resources.values() if "hush-hush" in json.dumps(r.inputs)] == [
        "gpu-1-triton"
    ]


# Runtimes, images, gateways -----------------------------------------------------------------------------

EDGE = {"unitManager": {"image": "manager:1"}, "llmNode": {"image": "llm:1"}}


def test_an_edge_llm_node_shares_one_tmp_and_starts_its_unit_manager_first() -> None:
    stack = config(1, edgeLlm=EDGE, models={"source": "host", "path": "/models"})
    stack["nodes"][0]["runtime"] = "edge-llm"
    fleet = declare(stack)
    manager, llm = fleet["gpu-1-unit-manager"].inputs, fleet["gpu-1-llm-node"].inputs
    for container in (manager, llm):
        shared = [mount for mount in container["mounts"] if mount["target"] == "/tmp"]
        assert [mount["source"] for mount in shared] == ["prod-gpu-1-tmp"]
    assert "gpu-1-unit-manager" in fleet.after("gpu-1-llm-node")
    assert fleet["gpu-1-llm-node"].replace_with == ("gpu-1-unit-manager",)
    assert fleet["gpu-1-service"].replace_with == ("gpu-1-llm-node",)
    assert "gpu-1-llm-node" in fleet.after("gpu-1-service")
    assert llm["deviceRequests"]
    assert "deviceRequests" not in manager
    assert manager["ports"] == []
    settings = yaml.safe_load(fleet["gpu-1-service"].inputs["uploads"][0]["content"])
    assert settings["ai"]["runtime"] == {
        "backend": "edge-llm",
        "edge_llm": {"endpoint": "unit-manager:19001"},
    }


def test_the_unit_manager_is_published_as_8801_only_when_asked_for() -> None:
    stack = config(1, edgeLlm={**EDGE, "publish": True})
    stack["nodes"][0]["runtime"] = "edge-llm"
    [port] = declare(stack)["gpu-1-unit-manager"].inputs["ports"]
    assert (port["internal"], port["external"]) == (19001, 8801)


def test_a_remote_node_has_a_service_alone_and_its_token_is_a_secret() -> None:
    stack = config(1, remote={"endpoint": "https://ai.example.com", "token": "remote-token"})
    stack["nodes"][0]["runtime"] = "remote"
    fleet = declare(stack)
    service = fleet["gpu-1-service"]
    assert {resource.name for resource in fleet.of(":Container")} == {"gpu-1-service", "gateway"}
    assert "AI__HTTP__TOKEN=remote-token" in service.inputs["envs"]
    assert "envs" in service.secrets
    assert "remote-token" not in service.inputs["uploads"][0]["content"]


def test_two_nodes_on_one_host_share_its_provider_and_nothing_else() -> None:
    stack = config(1)
    second = {"name": "gpu-b", "host": stack["nodes"][0]["host"], "ports": {"http": 8810, "grpc": 9810}}
    fleet = declare({**stack, "nodes": [*stack["nodes"], second]})
    assert len(fleet.of("providers:docker")) == 1
    names = [
        r.inputs["name"]
        for r in fleet.resources.values()
        if r.type.startswith("docker:") and "name" in r.inputs
    ]
    own = [name for name in names if name.startswith("prod-")]
    assert len(own) == len(set(own)) + 1, "the gateway's network and container have the same name"


def test_with_a_registry_an_image_is_built_once_and_pulled_by_every_host(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    build = {"build": {"context": str(tmp_path)}}
    images = {"registry": "registry.example.com/gpu", "username": "deploy", "password": "registry-password"}
    fleet = declare(config(3, service=build, images=images))
    [built] = fleet.of(":Image")
    assert built.inputs["skipPush"] is False
    assert built.inputs["imageName"].startswith("registry.example.com/gpu/service:")
    pulled = [r for r in fleet.of(":RemoteImage") if r.inputs["name"] == built.inputs["imageName"]]
    assert len(pulled) == 3
    assert all(built.name in fleet.after(resource.name) for resource in pulled)


def test_the_registrys_password_goes_to_the_builder_and_to_every_host_as_a_secret(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    images = {"registry": "registry.example.com/gpu", "username": "deploy", "password": "registry-password"}
    fleet = declare(config(3, service={"build": {"context": str(tmp_path)}}, images=images))
    holders = {name for name, r in fleet.resources.items() if "registry-password" in json.dumps(r.inputs)}
    [builder] = fleet.of(":Image")
    pullers = fleet.of("providers:docker")
    assert holders == {resource.name for resource in (builder, *pullers)}
    for name in holders:
        assert "registry-password" not in fleet[name].in_clear, name
    for host in pullers:
        assert "registry.example.com" in host.inputs["registryAuth"]
        assert "deploy" in host.inputs["registryAuth"]


def test_hosts_log_in_to_every_registry_that_the_stack_has_a_login_for() -> None:
    logins = [
        {"registry": "nvcr.io", "username": "$oauthtoken", "password": "ngc-password"},
        {"registry": "registry.example.com:5000", "username": "deploy", "password": "site-password"},
    ]
    gateway = {"host": "ssh://root@192.0.2.1", "image": "registry.example.com:5000/nginx:1.28"}
    fleet = declare(config(1, images={"logins": logins}, gateway=gateway))
    providers = fleet.of("providers:docker")
    assert len(providers) == 2
    for provider in providers:
        assert "nvcr.io" in provider.inputs["registryAuth"]
        assert "registry.example.com:5000" in provider.inputs["registryAuth"]
        assert "ngc-password" not in provider.in_clear
        assert "site-password" not in provider.in_clear
    # The step that tests the configuration runs the gateway's image: Docker's own pull has no login.
    image = fleet["gateway-image@root@192.0.2.1"]
    assert image.inputs["name"] == "registry.example.com:5000/nginx:1.28"
    assert image.name in fleet.after("gateway-config")


def test_another_images_service_may_have_settings_of_its_own() -> None:
    service = {
        "image": "other:1",
        "config": {"server": {"queue_timeout": "long"}, "ai": {"request": {"timeout": []}}},
    }
    assert (
        "proxy_read_timeout"
        in declare(config(1, service=service))["gateway-config"].declaration["files"]["nginx.conf"]
    )


def test_in_an_existing_site_the_gateway_is_its_upstream_file_alone() -> None:
    gateway = {"mode": "existing", "host": "ssh://root@192.0.2.1", "confDir": "/srv/nginx/conf.d"}
    fleet = declare(config(2, gateway=gateway))
    declared = fleet["gateway-servers"].declaration
    assert declared["file"] == "/srv/nginx/conf.d/ai_inference_service.servers.prod.conf"
    assert "server 192.0.2.11:8800" in declared["servers"]
    assert "gateway" not in [resource.name for resource in fleet.of(":Container")]
    assert declared["sets_aside"] == "/srv/nginx/conf.d/ai_inference_service.servers*.conf"
    assert "remove" in fleet["gateway-servers"].inputs["delete"]


@pytest.mark.parametrize(
    ("folder", "seen"),
    [
        ("/etc/ssl/ai", ["/etc/ssl/ai"]),
        (
            "/etc/letsencrypt/live/ai.example.com",
            ["/etc/letsencrypt/archive/ai.example.com", "/etc/letsencrypt/live/ai.example.com"],
        ),
    ],
)
def test_the_gateways_container_sees_its_certificates_folders_and_where_certbots_links_lead(
    folder: str, seen: list[str]
) -> None:
    tls = {"certificate": f"{folder}/fullchain.pem", "key": f"{folder}/privkey.pem"}
    fleet = declare(config(1, gateway={"tls": tls}))
    assert fleet["gateway-config"].declaration["mounts"] == seen
    mounts = [mount for mount in fleet["gateway"].inputs["mounts"] if mount["source"] == mount["target"]]
    assert [mount["source"] for mount in mounts] == seen
    assert all(mount["readOnly"] for mount in mounts)


def test_outputs_name_the_entrances_the_nodes_the_images_and_the_models(repository: Path) -> None:
    stack = config(
        2, models={"source": "sync", "path": str(repository)}, gateway={"publicHost": "ai.example.com"}
    )
    outputs = declare(stack).outputs
    assert outputs["gateway"] == {"http": "http://ai.example.com:8080", "grpc": "ai.example.com:9080"}
    assert outputs["nodes"]["gpu-2"]["http"] == "http://192.0.2.12:8800"
    assert outputs["images"]["service"] == "registry.example.com/service:1"
    assert outputs["models"]["gpu-1"].keys() == {"asr", "emotion"}
    assert outputs["prometheus"]["nodes"][1] == {
        "targets": ["192.0.2.12:8800"],
        "labels": {"stack": "prod", "node": "gpu-2"},
    }


# Size ---------------------------------------------------------------------------------------------------


def test_what_a_preview_computes_grows_linearly_with_the_nodes(repository: Path) -> None:
    shutil.rmtree(repository / "emotion")

    def calls(count: int) -> int:
        """The number of function calls that declare a fleet. Unlike seconds, it does not depend on load."""
        stack = copy.deepcopy(config(count, models={"source": "sync", "path": str(repository)}))
        counted = 0

        def count_call(_frame: object, event: str, _argument: object) -> None:
            nonlocal counted
            counted += event == "call"

        sys.setprofile(count_call)
        try:
            declare(stack)
        finally:
            sys.setprofile(None)
        return counted

    calls(2)  # fills the caches
    eight, thirty_two = calls(8), calls(32)
    assert thirty_two / eight <= 4 * 1.1, (eight, thirty_two)


# Roles ---------------------------------------------------------------------------------------------------


def roles(*tasks: list[str] | None) -> dict[str, Any]:
    stack = config(len(tasks), service={"build": True})
    for node, each in zip(stack["nodes"], tasks, strict=True):
        node |= {} if each is None else {"tasks": each}
    return stack


def test_a_node_with_tasks_loads_their_models_only_and_the_gateway_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    fleet = declare(roles(["asr"], ["emotion", "synthesis"]))
    loaded = {
        name: [word for word in fleet[f"{name}-triton"].inputs["command"] if word.startswith("--load-model")]
        for name in ("gpu-1", "gpu-2")
    }
    assert loaded["gpu-1"] == ["--load-model=asr"]
    assert loaded["gpu-2"] == [f"--load-model={each}" for each in ("emotion", "emotion-text", "synthesis")]
    text = fleet["gateway-config"].declaration["files"]["nginx.conf"]
    pool = text.partition("upstream ai_inference_service_asr {")[2].partition("}")[0]
    assert "192.0.2.11:8800" in pool
    assert "192.0.2.12:8800" not in pool
    assert not [each for each in said if "no node serves" in each]


def test_a_change_of_tasks_touches_that_node_and_the_gateway_only() -> None:
    before, after = declare(roles(None, None)), declare(roles(None, ["asr"]))
    assert {name for name in changed(before, after) if "gpu-1" in name} == set()


def test_a_preview_warns_of_a_task_that_no_node_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    stack = roles(["asr"], ["asr", "emotion"])
    stack["nodes"][1]["drained"] = True
    declare(stack)
    assert [each for each in said if "serves" in each] == [
        "each node that serves emotion is drained (gpu-2), "
        "so the gateway answers 503 to requests for emotion",
        "no node serves synthesis, so the gateway answers 503 to requests for synthesis; "
        "nodes[].tasks lists what each node serves",
    ]
