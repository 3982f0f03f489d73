"""Every key of a stack in a cluster has its effect on the objects."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from pydantic import BaseModel

from infra.kubernetes.objects import objects
from infra.stack.kubernetes import Kubernetes
from infra.stack.pools import Pool
from infra.stack.problems import section_in
from tests.kubernetes.stacks import BASE, EDGE, KEDA, OWN, POOL, stack

pytestmark = pytest.mark.fast

PUBLIC = {"gateway": {"publicHost": "ai.example.com"}}
INGRESS = {"kubernetes": {"ingress": {}}, **PUBLIC}
ROUTE = {"kubernetes": {"route": {"gateway": "a"}}, **PUBLIC}
HPA = {"nodes": [{"name": "l4", "autoscale": {"max": 4}}]}
BY_KEDA = {"nodes": [{"name": "l4", "autoscale": KEDA}]}
OPERATOR = {"kubernetes": {"monitoring": {"by": "operator"}}}
REMOTE = {"nodes": [{"name": "l4", "runtime": "remote", "remote": {"endpoint": "https://a.example.com"}}]}
_POOL, _CLUSTER = "nodes.0", "kubernetes"
#: Each key with another value than its default, and what it needs around it.
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {
    f"{_POOL}.name": ("other", {}),
    f"{_POOL}.replicas": (3, {}),
    f"{_POOL}.autoscale": ({"max": 4}, {"nodes": [{"name": "l4"}]}),
    f"{_POOL}.autoscale.min": (2, HPA),
    f"{_POOL}.autoscale.max": (5, HPA),
    f"{_POOL}.autoscale.running": (7, HPA),
    f"{_POOL}.autoscale.queued": (3, HPA),
    f"{_POOL}.autoscale.by": ("hpa", {"nodes": [{"name": "l4", "autoscale": {**KEDA, "min": 1}}]}),
    f"{_POOL}.autoscale.prometheus": ("http://other:9090", BY_KEDA),
    f"{_POOL}.autoscale.downAfterSeconds": (60, HPA),
    f"{_POOL}.runtime": ("edge-llm", EDGE),
    f"{_POOL}.gpus": (2, {}),
    f"{_POOL}.remote": ({"endpoint": "https://b.example.com"}, REMOTE),
    f"{_POOL}.tasks": (["asr"], {}),
    f"{_POOL}.weight": (3, {}),
    f"{_POOL}.drained": (True, {}),
    f"{_POOL}.selector": ({"a": "b"}, {}),
    f"{_POOL}.tolerations": ([{"key": "a"}], {}),
    f"{_POOL}.resources": ({"runtime": {"cpu": 4}}, {}),
    f"{_POOL}.resources.runtime": ({"memory": "9g"}, {}),
    f"{_POOL}.resources.service": ({"memory": "3g"}, {}),
    f"{_POOL}.update": ("replace", {}),
    f"{_POOL}.serviceAccount": ("reader", {}),
    f"{_CLUSTER}.namespace": ("speech", {}),
    f"{_CLUSTER}.clusterDomain": ("example.internal", {}),
    f"{_CLUSTER}.gpuResource": ("amd.com/gpu", {}),
    f"{_CLUSTER}.runtimeClass": ("nvidia", {}),
    f"{_CLUSTER}.gateway": ({"replicas": 3}, {}),
    f"{_CLUSTER}.gateway.replicas": (3, {}),
    f"{_CLUSTER}.gateway.cpu": ("1", {}),
    f"{_CLUSTER}.gateway.memory": ("1g", {}),
    f"{_CLUSTER}.service": ({"type": "NodePort"}, {}),
    f"{_CLUSTER}.service.type": ("NodePort", {}),
    f"{_CLUSTER}.service.annotations": ({"a": "b"}, {}),
    f"{_CLUSTER}.service.loadBalancerClass": ("example.com/a", {}),
    f"{_CLUSTER}.service.nodePorts": ({"http": 30080}, {}),
    f"{_CLUSTER}.service.nodePorts.http": (30080, {}),
    f"{_CLUSTER}.service.nodePorts.grpc": (30090, {}),
    f"{_CLUSTER}.service.externalTrafficPolicy": ("Cluster", {}),
    f"{_CLUSTER}.ingress": ({}, PUBLIC),
    f"{_CLUSTER}.ingress.className": ("nginx", INGRESS),
    f"{_CLUSTER}.ingress.annotations": ({"a": "b"}, INGRESS),
    f"{_CLUSTER}.ingress.tlsSecret": ("ai-tls", INGRESS),
    f"{_CLUSTER}.ingress.grpcHost": ("grpc.example.com", INGRESS),
    f"{_CLUSTER}.ingress.grpcAnnotations": (
        {"a": "b"},
        {"kubernetes": {"ingress": {"grpcHost": "grpc.example.com"}}, **PUBLIC},
    ),
    f"{_CLUSTER}.route": ({"gateway": "a"}, PUBLIC),
    f"{_CLUSTER}.route.gateway": ("b", ROUTE),
    f"{_CLUSTER}.route.namespace": ("edge", ROUTE),
    f"{_CLUSTER}.route.httpSection": ("https", ROUTE),
    f"{_CLUSTER}.route.grpcSection": ("grpc", ROUTE),
    f"{_CLUSTER}.tls": ({"secret": "a"}, {}),
    f"{_CLUSTER}.tls.secret": ("b", {"kubernetes": {"tls": {"secret": "a"}}}),
    f"{_CLUSTER}.tls.certManager": ({"name": "a"}, {"kubernetes": {"tls": {}}, **PUBLIC}),
    f"{_CLUSTER}.networkPolicies": (False, {}),
    f"{_CLUSTER}.monitoring": ({"by": "none"}, {}),
    f"{_CLUSTER}.monitoring.by": ("operator", {}),
    f"{_CLUSTER}.monitoring.labels": ({"a": "b"}, OPERATOR),
    f"{_CLUSTER}.monitoring.namespace": ("monitoring", {}),
    f"{_CLUSTER}.monitoring.dashboards": (False, {}),
    f"{_CLUSTER}.monitoring.dashboards.labels": ({"a": "b"}, {}),
    f"{_CLUSTER}.monitoring.dashboards.annotations": ({"grafana_folder": "Fleet"}, {}),
}
#: They are those of the provider; test_program.py has them.
_PROVIDER = {"kubernetes.context", "kubernetes.kubeconfig"}
#: Their inner keys are in the change of the whole.
_WHOLE = {"remote", "tolerations", "resources.runtime", "resources.service", "tls.certManager"}


def keys(section: type[BaseModel], path: str) -> list[str]:
    found = []
    for name, info in section.model_fields.items():
        key = f"{path}.{info.alias or name}"
        found.append(key)
        inner = section_in(info.rebuild_annotation())
        if inner is not None and key.split(".", 2 if path.startswith(_POOL) else 1)[-1] not in _WHOLE:
            found += keys(inner, key)
    return found


def put(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The stack with a value at a key."""
    whole = copy.deepcopy({**BASE, **config})
    at: Any = whole
    *outer, last = path.split(".")
    for key in outer:
        at = at[int(key)] if isinstance(at, list) else at.setdefault(key, {})
    at[last] = value
    if last == "certManager":
        at.pop("secret", None)
    return whole


def test_every_key_of_a_pool_and_of_the_cluster_is_here() -> None:
    found = {*keys(Pool, _POOL), *keys(Kubernetes, _CLUSTER)} - _PROVIDER
    assert found == CHANGES.keys()


@pytest.mark.parametrize("path", CHANGES)
def test_a_key_changes_the_objects(path: str) -> None:
    value, around = CHANGES[path]
    if path.endswith("certManager"):
        around = {**around, "kubernetes": {"tls": {"secret": "a"}}}
    before = objects(stack(around))
    assert objects(stack(put(around, path, value))) != before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("triton", {"image": "registry.example.com/gpu/triton:2"}),
        *(
            ("triton", {"image": "registry.example.com/gpu/triton:1", key: value})
            for key, value in (
                ("shmSize", "2g"),
                ("memory", "48g"),
                ("readOnly", False),
                ("extraArgs", ["--log-verbose=1"]),
                ("env", {"A": "b"}),
                ("user", "1001:1001"),
            )
        ),
        *(
            ("service", {"image": "registry.example.com/gpu/service:1", key: value})
            for key, value in (
                ("workers", 2),
                ("maxConcurrency", 8),
                ("memory", "8g"),
                ("readOnly", True),
                ("config", {"ai": {"streaming": {"flush_interval_ms": 500}}}),
                ("shutdownGraceSeconds", 30),
                ("env", {"A": "b"}),
            )
        ),
        ("models", {"source": "claim://other"}),
        ("models", {"source": "s3://bucket/models"}),
        ("models", {"source": "claim://models/triton", "allowRules": False}),
        *(
            ("gateway", {key: value})
            for key, value in (
                ("publicHost", "ai.example.com"),
                ("http", 80),
                ("grpc", 90),
                ("image", "nginx:1.29"),
                ("rateLimit", False),
                ("connectionLimit", 5),
                ("streamsPerConnection", 5),
                ("trustedProxies", ["192.0.2.0/24"]),
            )
        ),
        ("rollout", {"batch": 2}),
        ("rollout", {"canary": 0}),
        ("rollout", {"minHealthy": 1}),
        ("rollout", {"readyTimeoutSeconds": 900}),
        ("images", {"logins": [{"registry": "nvcr.io", "username": "a", "password": "example"}]}),
        ("apiKeys", ["example-key-1"]),
        ("traces", {"endpoint": "http://collector.example.com:4318"}),
        ("cors", {"origins": ["https://app.example.com"]}),
        ("monitoring", {"existing": "http://prometheus.example.com:9090"}),
    ],
)
def test_a_key_that_hosts_have_too_changes_the_objects(key: str, value: Any) -> None:
    own = OWN if key in ("gateway", "monitoring") else {}
    assert objects(stack({**own, key: value})) != objects(stack(own))


def test_the_console_is_in_the_gateways_pod_where_the_service_is_this_projects() -> None:
    def names(config: dict[str, Any]) -> list[str]:
        [found] = [
            each["spec"]["template"]["spec"]["containers"]
            for each in objects(stack(config))
            if each["kind"] == "Deployment" and each["metadata"]["name"] == "prod-gateway"
        ]
        return [each["name"] for each in found]

    assert names({}) == ["nginx"]
    assert names(OWN) == ["nginx", "console"]
    assert names({**OWN, "gateway": {"console": {"enabled": False}}}) == ["nginx"]


def test_a_model_that_changed_starts_the_pods_anew(tmp_path: Any) -> None:
    from infra.models.files import versions  # its cache

    (tmp_path / "asr" / "1").mkdir(parents=True)
    (tmp_path / "asr" / "1" / "model.py").write_text("one")
    config = {"models": {"source": "claim://models", "path": str(tmp_path)}}

    def annotation() -> str:
        versions.cache_clear()
        [pods] = [
            each["spec"]["template"]
            for each in objects(stack(config))
            if each["kind"] == "Deployment" and each["metadata"]["name"] == "prod-l4"
        ]
        return str(pods["metadata"]["annotations"]["gpu-inference/models"])

    before = annotation()
    assert annotation() == before
    (tmp_path / "asr" / "1" / "model.py").write_text("two")
    assert annotation() != before


def test_a_pool_of_the_smallest_stack_is_what_the_reader_expects() -> None:
    assert POOL == {"name": "l4", "replicas": 2}
    # Names of what pods read end with the digest of the content.
    kinds = [
        (each["kind"], re.sub("-[0-9a-f]{10}$", "-…", each["metadata"]["name"]))
        for each in objects(stack({}))
    ]
    assert kinds == [
        ("NetworkPolicy", "prod-nodes"),
        ("NetworkPolicy", "prod-gateway"),
        ("Secret", "prod-l4-settings-…"),
        ("Service", "prod-l4"),
        ("Deployment", "prod-l4-canary"),
        ("ConfigMap", "prod-l4-canary-good"),
        ("Deployment", "prod-l4"),
        ("ConfigMap", "prod-l4-good"),
        ("PodDisruptionBudget", "prod-l4"),
        ("ConfigMap", "prod-gateway-…"),
        ("Deployment", "prod-gateway"),
        ("PodDisruptionBudget", "prod-gateway"),
        ("Service", "prod-gateway"),
        *(("ConfigMap", f"prod-dashboard-{name}") for name in ("fleet", "gateway", "gpus", "node", "speech")),
    ]


def test_traces_go_through_both_containers_of_a_pod() -> None:
    given = stack({"traces": {"endpoint": "http://collector.example.com:4318"}})
    made = {(each["kind"], each["metadata"]["name"]): each for each in objects(given)}
    [triton] = made["Deployment", "prod-l4"]["spec"]["template"]["spec"]["initContainers"]
    assert "--trace-config=mode=opentelemetry" in triton["command"]
    assert any(each["name"].startswith("OTEL_EXPORTER") for each in triton["env"])
    [settings] = [each["stringData"] for each in objects(given) if each["kind"] == "Secret"]
    assert any("collector.example.com" in each for each in settings.values())
