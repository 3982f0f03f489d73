"""What Prometheus and Grafana of a cluster get of a stack: targets and dashboards. promtool makes targets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.kubernetes.labels import of_gateway, of_nodes, of_object
from infra.monitoring.dashboards import dashboards
from infra.names import CONSOLE_SETTINGS
from infra.paths import PACKAGE
from tests.kubernetes.stacks import KEYS, OWN, STACKS, stack
from tests.kubernetes.test_alerts import OPERATOR, UNREAD, declared
from tests.monitoring.test_monitoring import needs, promtool

pytestmark = pytest.mark.fast

Manifest = dict[str, Any]
#: What etcd takes of one object.
MOST_BYTES = 1 << 20


def pod(name: str, labels: dict[str, str], phase: str = "Running", port: str = "http") -> dict[str, str]:
    """What Prometheus knows of a port of a pod."""
    known = {re.sub(r"\W", "_", f"__meta_kubernetes_pod_label_{key}"): each for key, each in labels.items()}
    return known | {
        "__meta_kubernetes_namespace": "speech",
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_phase": phase,
        "__meta_kubernetes_pod_container_port_name": port,
    }


def targets(folder: Path, relabelings: list[Manifest], pods: list[dict[str, str]]) -> list[dict[str, str]]:
    """The labels of the targets that Prometheus makes of the pods, without its own."""
    found = [{"targets": ["192.0.2.10:8800"], "labels": labels} for labels in pods]
    job = {"job_name": "a", "static_configs": found, "relabel_configs": relabelings}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    done = promtool("check", "service-discovery", "--timeout=1s", folder / "prometheus.yml", "a")
    assert done.returncode == 0, done.stdout + done.stderr
    all_ = [each["labels"] for each in json.loads(done.stdout)]
    shown = [{key: each[key] for key in each if not key.startswith("__")} for each in all_ if each]
    return sorted(shown, key=lambda each: each["job"], reverse=True)


POOL_LABELS = {"app.kubernetes.io/instance": "prod", "gpu-inference/pool": "l4"}
NODE = {"job": "fleet-node", "stack": "prod", "node": "l4", "instance": "prod-l4-a"}
GATEWAY = {"job": "fleet-gateway", "stack": "prod", "instance": "prod-gateway-a"}


@needs("promtool")
def test_targets_have_the_labels_of_alerts_and_dashboards_and_pods_that_load_are_none(tmp_path: Path) -> None:
    def relabelings(monitor: str) -> list[Manifest]:
        [endpoint] = declared({**OWN, **OPERATOR}, "PodMonitor")[monitor]["spec"]["podMetricsEndpoints"]
        snake = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
        return [{snake.get(key, key): each[key] for key in each} for each in endpoint["relabelings"]]

    nodes = [pod("prod-l4-a", POOL_LABELS), pod("prod-l4-b", POOL_LABELS, phase="Pending")]
    assert targets(tmp_path, relabelings("prod-nodes"), nodes) == [NODE]
    assert targets(tmp_path, relabelings("prod-gateway"), [pod("prod-gateway-a", {})]) == [GATEWAY]


@needs("promtool")
def test_the_documented_job_makes_the_same_targets_of_annotated_pods(tmp_path: Path) -> None:
    page = (PACKAGE / "docs" / "kubernetes.md").read_text()
    [block] = re.findall(r"```yaml\n(scrape_configs:\n.+?)```", page, re.DOTALL)
    [job] = yaml.safe_load(block)["scrape_configs"]
    # Debian builds Prometheus without Kubernetes.
    assert job.pop("kubernetes_sd_configs") == [{"role": "pod"}]
    (tmp_path / "documented.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}))
    done = promtool("check", "config", tmp_path / "documented.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    scraped = {
        f"__meta_kubernetes_pod_annotation_{re.sub(r'[^a-z]', '_', key)}": value
        for key, value in annotated(OWN, "l4").items()
    }
    given = stack(OWN)
    node = of_object(of_nodes(given) | {"gpu-inference/pool": "l4"})
    pods = [
        pod("prod-l4-a", node) | scraped,
        pod("prod-l4-a", node, port="grpc") | scraped,
        pod("prod-l4-b", node, phase="Pending") | scraped,
        pod("prod-gateway-a", of_object(of_gateway(given))) | scraped,
        pod("prod-gateway-b", of_object(of_gateway(given))),
        pod("another", {"app.kubernetes.io/component": "node"}) | scraped,
    ]
    # Of those that the operator adds, autoscalers need two.
    expected = [{**each, "namespace": "speech", "pod": each["instance"]} for each in (NODE, GATEWAY)]
    assert targets(tmp_path, job["relabel_configs"], pods) == expected


def annotated(config: dict[str, Any], part: str) -> dict[str, str]:
    """The annotations for Prometheus of a pool's pods, or of the gateway's."""
    template = declared(config, "Deployment")[f"prod-{part}"]["spec"]["template"]
    found = template["metadata"]["annotations"]
    return {key: found[key] for key in found if key.startswith("prometheus.io/")}


def test_only_a_prometheus_without_an_operator_reads_annotations_and_it_has_no_key() -> None:
    assert annotated(OWN, "l4")["prometheus.io/port"] == "8800"
    assert annotated(OWN, "gateway")["prometheus.io/port"] == "8080"
    assert annotated({**OWN, **KEYS}, "gateway") == {}, "it would read 401"
    for part in ("l4", "gateway"):
        assert annotated({**OWN, **OPERATOR}, part) == {}
        assert annotated({**OWN, "kubernetes": {"monitoring": {"by": "none"}}}, part) == {}
    secured = {**OWN, "kubernetes": {"tls": {"secret": "ai-tls"}}}
    assert annotated(secured, "gateway")["prometheus.io/scheme"] == "https"


@pytest.mark.parametrize("config", UNREAD)
def test_a_gateway_that_prometheus_cannot_read_is_no_target(config: dict[str, Any]) -> None:
    whole = {**KEYS, **config, **OPERATOR}
    assert declared(whole, "PodMonitor").keys() == {"prod-nodes"}
    assert "prod-gateway-metrics" not in declared(whole, "Secret")
    assert not annotated(config, "gateway")


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (KEYS, "example-key-1"),
        ({**KEYS, "gateway": {"console": {"password": "example-password"}}}, "example-password"),
    ],
)
def test_prometheus_opens_the_gateway_by_a_secret(config: dict[str, Any], key: str) -> None:
    whole = {**OWN, **config, **OPERATOR}
    [endpoint] = declared(whole, "PodMonitor")["prod-gateway"]["spec"]["podMetricsEndpoints"]
    named = endpoint["authorization"]["credentials"]
    assert declared(whole, "Secret")[named["name"]]["stringData"] == {named["key"]: key}
    [nodes] = declared(whole, "PodMonitor")["prod-nodes"]["spec"]["podMetricsEndpoints"]
    assert "authorization" not in nodes


# Dashboards and the console -------------------------------------------------------------------------------


def test_the_dashboards_are_those_of_hosts_in_config_maps_that_grafanas_sidecar_finds() -> None:
    found = [each for name, each in declared({}, "ConfigMap").items() if name.startswith("prod-dashboard-")]
    assert {key: text for each in found for key, text in each["data"].items()} == dashboards()
    assert len(found) == 5
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in found)


@pytest.mark.parametrize("settings", [{"dashboards": False}, {"by": "none"}])
def test_dashboards_can_be_left_out(settings: dict[str, Any]) -> None:
    found = declared({"kubernetes": {"monitoring": settings}}, "ConfigMap")
    assert not [name for name in found if name.startswith("prod-dashboard-")]


@pytest.mark.parametrize("name", STACKS)
def test_every_config_map_is_small_enough_for_a_cluster(name: str) -> None:
    for each in declared(STACKS[name], "ConfigMap").values():
        assert len(json.dumps(each)) < MOST_BYTES / 4, each["metadata"]["name"]


def test_the_console_reads_an_existing_prometheus_and_asks_its_nginx_as_it_listens() -> None:
    address = "http://prometheus-operated.monitoring.svc:9090"

    def settings(**config: Any) -> Any:
        [held] = [
            each["data"]
            for name, each in declared({**OWN, **config}, "ConfigMap").items()
            if name.startswith("prod-gateway-")
        ]
        return json.loads(held[CONSOLE_SETTINGS])

    assert "prometheus" not in settings()
    assert settings(monitoring={"existing": address})["prometheus"] == address
    assert settings()["probe"] == "http://127.0.0.1:8080"
    assert settings(kubernetes={"tls": {"secret": "ai-tls"}})["probe"] == "https://127.0.0.1:8080"
