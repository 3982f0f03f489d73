"""The components as a package: their schema, their settings, and the example program."""

from __future__ import annotations

import json
import typing
from typing import Any

import pulumi
import pytest
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.runtime.mocks import set_mocks
from pydantic import BaseModel

from infra import stack
from infra.package import args, components, gateway_settings, monitoring_settings
from infra.package.stack import stack_of
from infra.paths import PACKAGE
from infra.service_settings import service_secrets
from infra.stack import monitoring
from tests.infra.declared import Engine, Fleet, Monitor

EXAMPLE = PACKAGE / "examples" / "one-node" / "__main__.py"


def run(program: str, **config: str) -> tuple[Fleet, dict[str, Any]]:
    """The resources and the outputs of a Pulumi program."""
    fleet, outputs = Fleet(), {}
    set_mocks(Engine(), project="one-node", stack="prod", preview=True, monitor=Monitor(fleet))
    pulumi.runtime.set_all_config(
        {f"one-node:{key}": value for key, value in config.items()}, ["one-node:apiKey"]
    )

    @pulumi.runtime.test
    def test() -> pulumi.Output[None]:
        exported: dict[str, pulumi.Output[Any]] = {}
        code = compile(program.replace("pulumi.export(", "export("), str(EXAMPLE), "exec")
        exec(code, {"__name__": "__main__", "export": exported.__setitem__})
        return pulumi.Output.all(**exported).apply(outputs.update)

    test()
    return fleet, outputs


@pytest.fixture
def example() -> tuple[Fleet, dict[str, Any]]:
    return run(EXAMPLE.read_text(), host="ssh://root@192.0.2.11", apiKey="example-key-1")


def test_the_example_declares_a_node_and_a_gateway_with_their_own_names(example: tuple[Fleet, Any]) -> None:
    fleet, outputs = example
    assert {each.inputs["name"] for each in fleet.of(":Container")} == {
        "prod-speech-triton",
        "prod-speech-service",
        "prod-entrance-gateway",
    }
    assert outputs == {"http": "http://192.0.2.11:8080", "grpc": "192.0.2.11:9080"}
    kinds = [kind for kind, _ in fleet.components.values() if kind.startswith("gpu-inference:")]
    assert sorted(kinds) == [
        f"gpu-inference:index:{name}"
        for name in ("Gateway", "Host", "Host", "Node", "NodeModels", "PreparedNode")
    ]


def test_the_examples_gateway_sends_traffic_to_its_node_once_that_is_healthy(
    example: tuple[Fleet, Any],
) -> None:
    fleet, _ = example
    assert "server 192.0.2.11:8800" in fleet["entrance-config"].declaration["files"]["nginx.conf"]
    assert "speech-ready" in fleet.after("entrance-config")


def test_the_examples_api_key_is_a_secret_of_both(example: tuple[Fleet, Any]) -> None:
    fleet, _ = example
    holders = {each.name for each in fleet.resources.values() if "example-key-1" in json.dumps(each.inputs)}
    assert holders == {"speech-service", "entrance-config"}
    assert "envs" in fleet["speech-service"].secrets
    assert "stdin" in fleet["entrance-config"].secrets


def test_api_keys_reach_the_service_by_the_variable_of_the_stack() -> None:
    settings = stack.parse({"nodes": ["ssh://root@192.0.2.11"], "apiKeys": ["example-key-1"]})
    assert list(service_secrets(settings, settings.nodes[0])) == [components.API_KEYS]


def test_the_schema_has_the_components_with_inputs_and_outputs() -> None:
    provider = ComponentProvider([components.Node, components.Gateway, components.Fleet], "gpu-inference")
    schema = json.loads(provider.schema or "")
    resources = schema["resources"]
    assert resources.keys() == {f"gpu-inference:index:{name}" for name in ("Node", "Gateway", "Fleet")}
    node, gateway = resources["gpu-inference:index:Node"], resources["gpu-inference:index:Gateway"]
    assert node["requiredInputs"] == ["host"]
    assert sorted(gateway["requiredInputs"]) == ["host", "nodes"]
    assert node["properties"].keys() == {"http", "grpc", "upstream"}
    fleet = resources["gpu-inference:index:Fleet"]
    assert fleet["properties"].keys() == {"http", "grpc", "monitoring", "targets"}
    assert "monitoring" in fleet["inputProperties"] and "nodes" in fleet["requiredInputs"]
    assert "hostImage" in schema["types"]["gpu-inference:index:Exporters"]["properties"]
    assert "shmSize" in schema["types"]["gpu-inference:index:Triton"]["properties"]


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        *(
            (getattr(stack, name), getattr(args, name))
            for name in (
                *("Ports", "Build", "Remote", "Triton", "EdgeLlmPart", "EdgeLlm", "Service", "Models"),
                *("Judge", "Rollout", "Ssh", "Login", "Images"),
            )
        ),
        (stack.Node, args.FleetNode),
        (stack.Tls, gateway_settings.Tls),
        (stack.RateLimit, gateway_settings.RateLimit),
        (stack.VirtualAddress, gateway_settings.VirtualAddress),
        (stack.Console, gateway_settings.Console),
        (stack.Gateway, gateway_settings.FleetGateway),
        (stack.Stack, args.FleetArgs),
        (monitoring.Monitoring, monitoring_settings.Monitoring),
        (monitoring.Prometheus, monitoring_settings.Prometheus),
        (monitoring.Exporters, monitoring_settings.Exporters),
    ],
)
def test_settings_have_the_keys_of_the_stack_file(section: type[BaseModel], settings: type) -> None:
    required = {name for name, field in section.model_fields.items() if field.is_required()}
    # The components are on hosts, and have no TLS to nodes.
    left_out = {"http_tls", "grpc_tls", "public_http_tls_port", "public_grpc_tls_port"}
    if section is stack.Stack:
        left_out |= {"tls", "target", "kubernetes"}
    assert settings.__annotations__.keys() == section.model_fields.keys() - left_out
    assert typing.cast(Any, settings).__required_keys__ == required


WATCHED = """
import pulumi
from infra.package.components import Fleet

fleet = Fleet(
    "site",
    {
        "nodes": [{"host": "ssh://root@192.168.7.11", "name": "gpu-1"}],
        "gateway": {"host": "ssh://root@192.168.7.1"},
        "monitoring": MONITORING,
    },
)
pulumi.export("monitoring", fleet.monitoring)
pulumi.export("targets", fleet.targets)
"""


def watched(monitoring: dict[str, Any]) -> tuple[Fleet, dict[str, Any]]:
    return run(WATCHED.replace("MONITORING", repr(monitoring)))


def test_a_fleet_starts_its_monitoring_and_tells_where_it_is() -> None:
    email = {"to": "ops@example.com", "from": "fleet@example.com", "smarthost": "mail.example.com:587"}
    fleet, outputs = watched(
        {
            "prometheus": {"retention": "30d", "port": 9091.0},
            "alertmanager": {"webhook": "https://hooks.example.com/a-token", "email": email},
            "grafana": False,
            "exporters": {"gpus": False, "host_image": "registry.example.com/exporter:1"},
        }
    )
    started = {each.inputs["name"] for each in fleet.of(":Container")}
    assert {f"prod-site-{part}" for part in ("prometheus", "alertmanager", "host-exporter")} < started
    assert not {f"prod-site-{part}" for part in ("grafana", "gpu-exporter")} & started
    assert "--storage.tsdb.retention.time=30d" in fleet["prometheus"].inputs["command"]
    read = fleet["prometheus-config"].declaration["files"]["prometheus.yml"]
    assert "192.168.7.11:8800" in read and "192.168.7.11:9100" in read
    assert "a-token" in fleet["alertmanager-config"].declaration["files"]["alertmanager.yml"]
    assert "stdin" in fleet["alertmanager-config"].secrets
    assert fleet["host-exporter@192.168.7.11"].inputs["image"] == "registry.example.com/exporter:1"
    assert outputs["monitoring"]["prometheus"] == "http://127.0.0.1:9091"
    assert outputs["monitoring"]["reach"].endswith("root@192.168.7.1")


def test_a_fleet_tells_a_prometheus_that_is_there_already_what_to_read() -> None:
    fleet, outputs = watched({"existing": "https://prometheus.example.com"})
    assert not [name for name in fleet.resources if "exporter" in name or "prometheus" in name]
    assert outputs["monitoring"] == {"prometheus": "https://prometheus.example.com"}
    [node] = outputs["targets"]["nodes"]
    assert node == {"targets": ["192.168.7.11:8800"], "labels": {"stack": "prod-site", "node": "gpu-1"}}


def test_a_wrong_key_of_monitoring_is_named_by_its_path() -> None:
    with pytest.raises(stack.StackError, match=r"monitoring\.grafana.*bnid"):
        watched({"grafana": {"bnid": "192.168.7.1"}})


def test_numbers_of_other_languages_and_keys_of_environments_are_taken_as_they_are_meant() -> None:
    made = stack_of(
        {
            "nodes": [{"host": "ssh://root@192.0.2.11", "ports": {"triton_http": 8100.0}}],
            "service": {"env": {"SOME_name": "x"}, "workers": 3.0},
        },
        "prod",
    )
    assert made.nodes[0].ports.triton_http == 8100
    assert made.service.env == {"SOME_name": "x"}
    with pytest.raises(stack.StackError, match=r"service\.workers"):
        stack_of({"nodes": ["ssh://root@192.0.2.11"], "service": {"workers": 0.0}}, "prod")
