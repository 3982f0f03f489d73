"""A stack in a cluster: its defaults, and its mistakes, each with its key and the key to use."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest

from infra.stack import ClusterHost, StackError, parse
from infra.stack.kubernetes_rules import POOL_ONLY, SENSELESS
from infra.stack.pools import Pool
from infra.stack.schema import schema
from tests.kubernetes.stacks import BASE, EDGE, KEDA, POOL, pool, stack

pytestmark = pytest.mark.fast


def mistakes(name: str = "prod", **config: Any) -> list[str]:
    """The errors of a configuration over the smallest one's."""
    with pytest.raises(StackError) as caught:
        parse({**BASE, **config}, name)
    return [str(problem) for problem in caught.value.problems]


def test_a_pool_is_one_node_to_the_gateway_at_the_name_of_its_service() -> None:
    given = stack({"kubernetes": {"namespace": "speech"}})
    [node] = given.nodes
    assert node.host == ClusterHost("prod-l4", "speech", "cluster.local")
    assert node.public_host == "prod-l4.speech.svc.cluster.local"
    assert given.dialled_ports(node) == (8800, 9800)
    assert given.gateway.public_host == "prod-gateway.speech.svc.cluster.local"
    assert not given.node_tls
    assert (given.pools[0].least, given.pools[0].most) == (2, 2)


def test_a_pool_has_one_gpu_unless_it_forwards() -> None:
    assert Pool(name="a").gpus == 1
    assert Pool(name="a", runtime="remote").gpus == 0


def test_a_toleration_with_a_value_compares_it() -> None:
    [given] = stack(pool(tolerations=[{"key": "team", "value": "speech"}])).pools[0].tolerations
    assert given.operator == "Equal"


def test_a_stack_on_hosts_is_as_before_without_a_cluster() -> None:
    given = parse({"nodes": ["ssh://root@192.0.2.10"]})
    assert not given.in_cluster
    assert given.pools == ()


@pytest.mark.parametrize("path", SENSELESS)
def test_a_key_for_hosts_names_the_one_to_use(path: str) -> None:
    value: Any = 1
    for key in reversed(path.split(".")):
        value = {key: value}
    [key] = value
    config = value[key] if key not in BASE else {**BASE[key], **value[key]}
    found = mistakes(**{key: config})
    expected = f"{path}: makes no sense with target: kubernetes; {SENSELESS[path]}"
    assert expected in found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            pool(host="ssh://a"),
            "nodes[0].host: makes no sense with target: kubernetes; use nodes[0].selector",
        ),
        (pool(ports={"http": 1}), "nodes[0].ports: makes no sense with target: kubernetes; each pod"),
        ({"nodes": ["ssh://root@192.0.2.10"]}, "nodes[0].host: makes no sense"),
        ({"nodes": [{}]}, "nodes[0].name: required"),
        ({"nodes": [POOL, POOL]}, 'nodes[1].name: "l4" is also the name of nodes[0]'),
        ({"nodes": [{"name": "gateway"}]}, "nodes[0].name: the gateway's objects have this name"),
        ({"nodes": [{"name": "a" * 47}]}, "nodes[0].name: expected prod-aaa"),
        (pool(replica=2), 'nodes[0].replica: unknown key; did you mean "replicas"?'),
        (pool(autoscale={"max": 2}), "nodes[0]: expected replicas or autoscale, got both"),
        ({"nodes": [{"name": "a", "autoscale": {"min": 3, "max": 2}}]}, "expected max of at least min (3)"),
        ({"nodes": [{"name": "a", "autoscale": {"min": 0, "max": 2}}]}, "min 0 needs by: keda"),
        ({"nodes": [{"name": "a", "autoscale": {"max": 2, "by": "keda"}}]}, "by: keda needs prometheus"),
        (pool(gpus="all"), 'nodes[0].gpus: expected an integer, got "all"'),
        (pool(selector={"gpu": True}), 'nodes[0].selector: expected text for the label gpu, such as "true"'),
        (pool(tolerations=[{"value": "x"}]), "expected a key with operator Equal"),
        (
            pool(tolerations=[{"key": "a", "operator": "Exists", "value": "x"}]),
            "expected no value with operator",
        ),
        (
            pool(tolerations=[{"key": "a", "tolerationSeconds": 1}]),
            "tolerationSeconds needs effect: NoExecute",
        ),
        (
            pool(resources={"runtime": {"memory": "64g"}}),
            "expected at most the limit triton.memory (32g), got 64g",
        ),
        (pool(resources={"runtime": {"cpu": "two"}}), "expected CPUs such as 2, 0.5 or 500m"),
        (
            pool(runtime="edge-llm"),
            "edgeLlm.unitManager: expected image or build: nodes[0].runtime is edge-llm",
        ),
        (pool(runtime="remote"), "nodes[0].remote.endpoint: required where runtime is remote"),
        ({"models": {}}, "models.source: makes no sense with target: kubernetes; expected claim://NAME"),
        ({"models": {"source": "claim:///a"}}, "models.source: expected a name after ://"),
        (
            {"models": {"source": "image://registry.example.com/m"}},
            "models.source: expected a tag other than",
        ),
        ({"models": {"source": "s3://b"}, **pool(runtime="edge-llm"), **EDGE}, "is read by Triton only"),
        (
            {"service": {}},
            "images.registry: required: the cluster pulls the image of service, which is built",
        ),
        ({"service": {"image": "a/service"}}, "service.image: expected a tag other than latest, or a digest"),
        ({"gateway": {"image": "nginx:latest"}}, "gateway.image: expected a tag other than latest"),
        ({"triton": {"user": "triton", "image": "a:1"}}, "triton.user: expected numbers such as 1000:1000"),
        ({"triton": {"shmSize": "64g", "image": "a:1"}}, "triton.shmSize: counts in triton.memory (32g)"),
        ({"kubernetes": {"namespace": "A b"}}, "kubernetes.namespace: expected lower-case letters, digits"),
        ({"kubernetes": {"gpuResource": "gpu"}}, "kubernetes.gpuResource: expected an extended resource"),
        ({"kubernetes": {"tls": {}}}, "kubernetes.tls: expected secret or certManager"),
        ({"kubernetes": {"ingress": {}}}, "gateway.publicHost: required with kubernetes.ingress"),
        (
            {
                "kubernetes": {"ingress": {}, "route": {"gateway": "a"}},
                "gateway": {"publicHost": "a.example.com"},
            },
            "kubernetes.route: expected kubernetes.ingress or kubernetes.route, got both",
        ),
        (
            {"kubernetes": {"service": {"type": "ClusterIP", "nodePorts": {"http": 30080}}}},
            "kubernetes.service.nodePorts: type ClusterIP opens no ports",
        ),
        ({"gateway": {"grpcBalancing": "layer4"}}, "gateway.grpcBalancing: layer4 is for hosts"),
        ({"gateway": {"http": 80, "grpc": 80}}, "gateway.grpc: port 80 is also gateway.http"),
        (
            {"monitoring": {}},
            "monitoring.existing: required with target: kubernetes: the address of a Prometheus of",
        ),
        ({"monitoring": {"grafana": {"port": 3001}}}, "use kubernetes.monitoring.dashboards"),
        ({"kubernetes": {"monitoring": {"dashboards": True}}}, "kubernetes.monitoring.dashboards: expected"),
        ({"rollout": {"minHealthy": 2}}, "rollout.minHealthy: nodes[0] has 2 pods, of which no machine"),
    ],
)
def test_a_mistake_is_named_by_its_key(config: dict[str, Any], message: str) -> None:
    found = mistakes(**config)
    assert any(message in problem for problem in found), found


def test_a_stacks_name_is_that_of_its_objects() -> None:
    [found] = mistakes(name="Prod.1")
    assert found.startswith("target: the names of a cluster's objects begin with the stack's; expected")


@pytest.mark.parametrize("key", POOL_ONLY)
def test_a_key_of_a_pool_needs_the_target(key: str) -> None:
    with pytest.raises(StackError) as caught:
        parse({"nodes": [{"host": "ssh://root@192.0.2.10", key: 1}]})
    assert str(caught.value.problems[0]) == f"nodes[0].{key}: is a key of a pool; it needs target: kubernetes"


@pytest.mark.parametrize("source", ["claim://models", "image://registry.example.com/models:1"])
def test_hosts_have_no_claims_and_mount_no_images(source: str) -> None:
    with pytest.raises(StackError, match=r"models\.source: needs target: kubernetes; expected host, sync"):
        parse({"nodes": ["ssh://root@192.0.2.10"], "models": {"source": source}})


def test_the_section_of_the_cluster_needs_the_target() -> None:
    with pytest.raises(StackError, match="kubernetes: needs target: kubernetes"):
        parse({"nodes": ["ssh://root@192.0.2.10"], "kubernetes": {"namespace": "speech"}})


def test_keda_may_let_a_pool_sleep() -> None:
    assert stack({"nodes": [{"name": "a", "autoscale": KEDA}]}).pools[0].least == 0


def test_an_editor_knows_the_keys_of_pools_by_the_target() -> None:
    valid = jsonschema_rs.validator_for(schema()).is_valid

    def written(config: dict[str, Any]) -> dict[str, Any]:
        return {"config": {f"gpu-inference:{key}": value for key, value in config.items()}}

    assert valid(written(BASE))
    assert not valid(written({**BASE, "target": "hosts"}))
    assert not valid(written({**BASE, "nodes": ["ssh://root@192.0.2.10"]}))
    assert not valid(written({"nodes": [POOL]}))
