"""How a Prometheus finds the pods of a stack."""

from inference_service import addresses
from infra.kubernetes import labels
from infra.kubernetes.labels import Manifest
from infra.stack import Stack

_PATH = "/metrics"
_SECONDS = 15


def annotations(stack: Stack) -> dict[str, str]:
    """The annotations of pods that serve the inference service's metrics."""
    return _annotations(stack, addresses.HTTP_PORT)


def gateway_annotations(stack: Stack) -> dict[str, str]:
    """Those of the gateway's pods, whose console has the metrics."""
    return _annotations(stack, addresses.GATEWAY_HTTP_PORT) if stack.console is not None else {}


def _annotations(stack: Stack, port: int) -> dict[str, str]:
    if stack.kubernetes.monitoring.by != "annotations":
        return {}
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": _PATH}


def monitors(stack: Stack) -> list[Manifest]:
    """The PodMonitors of the Prometheus operator, for the pools and for the gateway."""
    if stack.kubernetes.monitoring.by != "operator":
        return []
    made = [_monitor(stack, "nodes", labels.of_nodes(stack))]
    if stack.console is not None:
        made.append(_monitor(stack, labels.GATEWAY, labels.of_gateway(stack)))
    return made


def _monitor(stack: Stack, part: str, selecting: dict[str, str]) -> Manifest:
    metadata = labels.metadata(stack, labels.of(stack, part), selecting)
    metadata["labels"] |= stack.kubernetes.monitoring.labels
    endpoint: Manifest = {"port": "http", "path": _PATH, "interval": f"{_SECONDS}s"}
    if part == labels.GATEWAY and stack.kubernetes.tls is not None:
        # The certificate is for the public name, and Prometheus dials the pod.
        endpoint |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": selecting},
            # The names under which the fleet's dashboards and alerts know stack and pool.
            "podTargetLabels": [labels.STACK, labels.POOL],
            "podMetricsEndpoints": [endpoint],
        },
    }
