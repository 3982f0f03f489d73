"""The cluster of a stack with `target: kubernetes`, and the entrance to it."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from infra.stack.section import Section
from infra.stack.values import NonEmpty, Port, Secret, off

#: A name of a Kubernetes object that is a part of a DNS name (RFC 1123).
ObjectName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
DnsName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
]
#: A resource that machines advertise: nvidia.com/gpu, nvidia.com/mig-1g.10gb, amd.com/gpu.
ResourceName = Annotated[
    str,
    StringConstraints(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)/[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$"),
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$")]
#: The key of a label or a taint: a name, with an optional prefix.
LabelKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$"
    ),
]


class NodePorts(Section):
    """The ports of every machine of the cluster, for type NodePort or LoadBalancer. Default: free ones."""

    http: Port | None = None
    grpc: Port | None = None


class ServiceEntrance(Section):
    """The Service of the gateway."""

    type: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    """ClusterIP: reached in the cluster only, and by `ingress` or `route`."""
    annotations: dict[str, str] = Field(default_factory=dict)
    load_balancer_class: NonEmpty | None = None
    node_ports: NodePorts = Field(default_factory=NodePorts)
    external_traffic_policy: Literal["Local", "Cluster"] = "Local"
    """Local keeps the clients' addresses, which the gateway's limits count; Cluster hides them."""


class Ingress(Section):
    """An Ingress for the HTTP API at `gateway.publicHost`, and one for gRPC where it has a host."""

    class_name: NonEmpty | None = None
    annotations: dict[str, str] = Field(default_factory=dict)
    """What the controller needs for large bodies and long answers, e.g. proxy-body-size."""
    tls_secret: ObjectName | None = None
    """The Secret with the certificate that the controller shows."""
    grpc_host: DnsName | None = None
    """The host name of gRPC, which an Ingress can serve under a name of its own only."""
    grpc_annotations: dict[str, str] = Field(default_factory=dict)
    """The annotations of that Ingress, e.g. nginx.ingress.kubernetes.io/backend-protocol: GRPC."""


class Route(Section):
    """An HTTPRoute and a GRPCRoute at `gateway.publicHost`, to a Gateway of the Gateway API that exists."""

    gateway: ObjectName
    """The Gateway's name."""
    namespace: ObjectName | None = None
    """Its namespace. Default: the stack's."""
    http_section: NonEmpty | None = None
    """Its listener for HTTP. Default: every listener that allows the route."""
    grpc_section: NonEmpty | None = None
    """Its listener for gRPC."""


class Issuer(Section):
    """An issuer of cert-manager."""

    name: ObjectName
    kind: Literal["Issuer", "ClusterIssuer"] = "ClusterIssuer"


class GatewayCertificate(Section):
    """The gateway's own certificate, for clients that reach it without an Ingress or a Route."""

    secret: ObjectName | None = None
    """A Secret of type kubernetes.io/tls that exists."""
    cert_manager: Issuer | None = None
    """cert-manager makes the certificate, for `gateway.publicHost`, and renews it."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.secret is None) == (self.cert_manager is None):
            raise ValueError("expected secret or certManager")
        return self


class Dashboards(Section):
    """The fleet's dashboards as ConfigMaps, for the sidecar of a Grafana that is there."""

    labels: dict[LabelKey, LabelValue] = Field(default_factory=lambda: {"grafana_dashboard": "1"})
    """The labels by which the sidecar finds them. Default: {grafana_dashboard: "1"}."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """What the sidecar reads beside them, e.g. {grafana_folder: Fleet}."""


class MonitoredBy(Section):
    """How a Prometheus of the cluster finds the pods, and what it and Grafana get of the stack."""

    by: Literal["annotations", "operator", "none"] = "annotations"
    """annotations: prometheus.io/scrape and the like; operator: PodMonitors and a PrometheusRule with the
    alerts, for the Prometheus operator; none."""
    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict)
    """operator: labels by which the operator selects monitors and rules, e.g. {release: prometheus}."""
    namespace: ObjectName | None = None
    """The namespace of Prometheus, which may reach the pods. Default: every namespace may, by HTTP."""
    dashboards: Annotated[Dashboards | None, BeforeValidator(off)] = Field(
        default_factory=lambda data: None if data.get("by") == "none" else Dashboards()
    )
    """The dashboards as ConfigMaps. false: none, e.g. where Grafana has them of another stack. Default: false
    with by: none."""


class GatewayPods(Section):
    """The gateway's pods."""

    replicas: Annotated[int, Field(ge=1, le=100)] = 2
    """How many. Each counts the limits of clients for itself."""
    cpu: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?m?$")] = "250m"
    """What each asks of the scheduler."""
    memory: Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[kKmMgG]?[bB]?$")] = "512m"
    """The limit of nginx's container."""


class Kubernetes(Section):
    """The cluster that the stack is deployed to, and what of it the stack uses."""

    context: NonEmpty | None = None
    """The context of the kubeconfig. Default: its current one."""
    kubeconfig: Secret | None = None
    """A kubeconfig's content, encrypted, or its path. Default: KUBECONFIG, else ~/.kube/config."""
    namespace: ObjectName = "default"
    """A namespace that exists: the stack makes none, so that `destroy` can take away none."""
    cluster_domain: DnsName = "cluster.local"
    """The domain of the cluster's DNS."""
    gpu_resource: ResourceName = "nvidia.com/gpu"
    """What a pool's `gpus` are: the extended resource of the device plugin, e.g. nvidia.com/mig-1g.10gb."""
    runtime_class: ObjectName | None = None
    """The RuntimeClass of pods with GPUs, where containers get none without it (k3s: nvidia)."""
    gateway: GatewayPods = Field(default_factory=GatewayPods)
    service: ServiceEntrance = Field(default_factory=ServiceEntrance)
    ingress: Ingress | None = None
    route: Route | None = None
    tls: GatewayCertificate | None = None
    """The gateway's own certificate. Default: clients reach it without TLS."""
    network_policies: bool = True
    """Only the gateway reaches the nodes' pods. It needs a network that knows NetworkPolicies."""
    monitoring: MonitoredBy = Field(default_factory=MonitoredBy)
