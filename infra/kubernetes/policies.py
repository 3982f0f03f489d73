"""Who may reach the pods: NetworkPolicies. Triton needs none, because it listens in its own pod only."""

from inference_service import addresses
from infra.kubernetes import labels
from infra.kubernetes.labels import Manifest
from infra.stack import Stack


def objects(stack: Stack) -> list[Manifest]:
    """The policies of the pools and of the gateway; none where the stack wants none."""
    if not stack.kubernetes.network_policies:
        return []
    scraped = _scraped(stack, addresses.HTTP_PORT)
    dialled = {
        "from": [{"podSelector": {"matchLabels": labels.of_gateway(stack)}}],
        "ports": [_port(addresses.HTTP_PORT), _port(addresses.GRPC_PORT)],
    }
    entrances = {"ports": [_port(addresses.GATEWAY_HTTP_PORT), _port(addresses.GATEWAY_GRPC_PORT)]}
    return [
        _policy(stack, "nodes", labels.of_nodes(stack), [dialled, *scraped]),
        _policy(stack, labels.GATEWAY, labels.of_gateway(stack), [entrances]),
    ]


def _scraped(stack: Stack, port: int) -> list[Manifest]:
    """A Prometheus may read the metrics: of its namespace where that is given, else of any."""
    monitoring = stack.kubernetes.monitoring
    if monitoring.by == "none":
        return []
    who: Manifest = {"namespaceSelector": {}}
    if monitoring.namespace is not None:
        who = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": monitoring.namespace}}}
    return [{"from": [who], "ports": [_port(port)]}]


def _policy(stack: Stack, part: str, selecting: dict[str, str], ingress: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": labels.metadata(stack, labels.of(stack, part), selecting),
        "spec": {"podSelector": {"matchLabels": selecting}, "policyTypes": ["Ingress"], "ingress": ingress},
    }


def _port(number: int) -> Manifest:
    return {"protocol": "TCP", "port": number}
