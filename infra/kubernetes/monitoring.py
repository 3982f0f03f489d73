"""How a Prometheus finds the pods of a stack, and what it and a Grafana get of it: alerts and dashboards."""

from inference_service import addresses
from infra.kubernetes import alerts, labels
from infra.kubernetes.labels import Manifest
from infra.monitoring.dashboards import dashboards
from infra.monitoring.prometheus import SCRAPE_SECONDS, gateway_key
from infra.stack import Stack

_PATH = "/metrics"
_API = "monitoring.coreos.com/v1"
#: The jobs by which alerts and dashboards know gateways and nodes.
_JOBS = {labels.GATEWAY: "fleet-gateway", labels.NODE: "fleet-node"}
#: The key in the Secret with which Prometheus reads the gateway.
_KEY = "key"


def annotations(stack: Stack) -> dict[str, str]:
    """The annotations of pods that serve the inference service's metrics."""
    return _annotations(stack, addresses.HTTP_PORT)


def gateway_annotations(stack: Stack) -> dict[str, str]:
    """Those of the gateway's pods, whose console has the metrics. An annotation carries no key."""
    open_ = gateway_is_read(stack) and gateway_key(stack) is None
    found = _annotations(stack, addresses.GATEWAY_HTTP_PORT) if open_ else {}
    if found and stack.kubernetes.tls is not None:
        found["prometheus.io/scheme"] = "https"
    return found


def _annotations(stack: Stack, port: int) -> dict[str, str]:
    if stack.kubernetes.monitoring.by != "annotations":
        return {}
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": _PATH}


def gateway_is_read(stack: Stack) -> bool:
    """Whether the gateway has metrics that a Prometheus can read: it writes no PROXY header."""
    return stack.console is not None and not stack.gateway.proxy_protocol


def objects(stack: Stack) -> list[Manifest]:
    """All objects of the monitoring, each after those that it needs."""
    made = []
    if stack.kubernetes.monitoring.by == "operator":
        made = [*_gateway_key(stack), *_monitors(stack), _rule(stack)]
    return [*made, *_dashboards(stack)]


def _gateway_key(stack: Stack) -> list[Manifest]:
    key = gateway_key(stack)
    if key is None or not gateway_is_read(stack):
        return []
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": labels.metadata(stack, _key_name(stack), labels.of_gateway(stack)),
            "type": "Opaque",
            "stringData": {_KEY: key},
        }
    ]


def _key_name(stack: Stack) -> str:
    return labels.of(stack, labels.GATEWAY, "metrics")


def _monitors(stack: Stack) -> list[Manifest]:
    """The PodMonitors of the Prometheus operator, for the pools and for the gateway."""
    nodes: Manifest = {"sourceLabels": [_pod_label(labels.POOL)], "targetLabel": "node"}
    made = [_monitor(stack, "nodes", labels.of_nodes(stack), {}, [nodes])]
    if gateway_is_read(stack):
        further: Manifest = {}
        if gateway_key(stack) is not None:
            further["authorization"] = {"credentials": {"name": _key_name(stack), "key": _KEY}}
        if stack.kubernetes.tls is not None:
            # The certificate is for the public name, and Prometheus dials the pod.
            further |= {"scheme": "https", "tlsConfig": {"insecureSkipVerify": True}}
        made.append(_monitor(stack, labels.GATEWAY, labels.of_gateway(stack), further, []))
    return made


def _monitor(
    stack: Stack, part: str, selecting: dict[str, str], further: Manifest, relabelings: list[Manifest]
) -> Manifest:
    """One target for each pod, with the labels that alerts and dashboards ask for."""
    # A pod that still loads its models is no target yet: its sidecar keeps it from running.
    running: Manifest = {
        "sourceLabels": ["__meta_kubernetes_pod_phase"],
        "regex": "Running",
        "action": "keep",
    }
    known = [
        _constant("job", _JOBS[selecting[labels.COMPONENT]]),
        _constant("stack", stack.name),
        {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"},
    ]
    endpoint = {"port": "http", "path": _PATH, "interval": f"{SCRAPE_SECONDS}s", **further}
    return {
        "apiVersion": _API,
        "kind": "PodMonitor",
        "metadata": _selected(stack, part, selecting),
        "spec": {
            "selector": {"matchLabels": selecting},
            "podMetricsEndpoints": [{**endpoint, "relabelings": [running, *known, *relabelings]}],
        },
    }


def _rule(stack: Stack) -> Manifest:
    found = alerts.groups(stack, gateway=gateway_is_read(stack))
    return {
        "apiVersion": _API,
        "kind": "PrometheusRule",
        "metadata": _selected(stack, "alerts", labels.of_stack(stack)),
        "spec": {"groups": found},
    }


def _selected(stack: Stack, part: str, own: dict[str, str]) -> Manifest:
    """The metadata of an object that the operator selects by the user's labels."""
    metadata = labels.metadata(stack, labels.of(stack, part), own)
    metadata["labels"] |= stack.kubernetes.monitoring.labels
    return metadata


def _dashboards(stack: Stack) -> list[Manifest]:
    """A ConfigMap for each dashboard, which the sidecar of a Grafana finds by its labels."""
    settings = stack.kubernetes.monitoring.dashboards
    if settings is None:
        return []
    made = []
    for file, text in dashboards().items():
        name = labels.of(stack, "dashboard", file.removesuffix(".json"))
        metadata = labels.metadata(stack, name, labels.of_stack(stack), settings.annotations)
        metadata["labels"] |= settings.labels
        made.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {file: text}})
    return made


def _constant(label: str, value: str) -> Manifest:
    return {"targetLabel": label, "replacement": value}


def _pod_label(key: str) -> str:
    return "__meta_kubernetes_pod_label_" + "".join(each if each.isalnum() else "_" for each in key)
