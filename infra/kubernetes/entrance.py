"""How clients reach the gateway's pods: its Service, an Ingress or a Route, and its certificate."""

from infra.kubernetes import labels
from infra.kubernetes.gateway import certificate_secret
from infra.kubernetes.labels import Manifest
from infra.stack import Stack


def objects(stack: Stack) -> list[Manifest]:
    """All objects of the entrance, each after those that it needs."""
    return [*_certificate(stack), service(stack), *_ingresses(stack), *_routes(stack)]


def service(stack: Stack) -> Manifest:
    """The Service in front of the gateway's pods."""
    settings, gateway = stack.kubernetes.service, stack.gateway
    ports = [
        {"name": "http", "port": gateway.http, "targetPort": "http"},
        # By this name and protocol, load balancers know that it is HTTP/2 without TLS.
        {"name": "grpc", "port": gateway.grpc, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"},
    ]
    for port, number in zip(ports, (settings.node_ports.http, settings.node_ports.grpc), strict=True):
        if number is not None:
            port["nodePort"] = number
    if stack.kubernetes.tls is not None:
        del ports[1]["appProtocol"]
    spec: Manifest = {"type": settings.type, "selector": labels.of_gateway(stack), "ports": ports}
    if settings.type != "ClusterIP":
        spec["externalTrafficPolicy"] = settings.external_traffic_policy
    if settings.type == "LoadBalancer" and settings.load_balancer_class is not None:
        spec["loadBalancerClass"] = settings.load_balancer_class
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(stack, annotations=settings.annotations),
        "spec": spec,
    }


def _metadata(stack: Stack, suffix: str = "", annotations: dict[str, str] | None = None) -> Manifest:
    name = labels.of(stack, labels.GATEWAY, suffix)
    return labels.metadata(stack, name, labels.of_gateway(stack), annotations)


def _certificate(stack: Stack) -> list[Manifest]:
    tls = stack.kubernetes.tls
    if tls is None or tls.cert_manager is None:
        return []
    return [
        {
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": _metadata(stack),
            "spec": {
                "secretName": certificate_secret(stack),
                "dnsNames": [stack.gateway.public_host],
                "issuerRef": {
                    "group": "cert-manager.io",
                    "kind": tls.cert_manager.kind,
                    "name": tls.cert_manager.name,
                },
            },
        }
    ]


def _ingresses(stack: Stack) -> list[Manifest]:
    settings = stack.kubernetes.ingress
    if settings is None:
        return []
    made = [_ingress(stack, "", stack.gateway.public_host, "http", settings.annotations)]
    if settings.grpc_host is not None:
        made.append(_ingress(stack, "grpc", settings.grpc_host, "grpc", settings.grpc_annotations))
    return made


def _ingress(stack: Stack, suffix: str, host: str, port: str, annotations: dict[str, str]) -> Manifest:
    settings = stack.kubernetes.ingress
    assert settings is not None
    backend = {"service": {"name": labels.of(stack, labels.GATEWAY), "port": {"name": port}}}
    spec: Manifest = {
        "rules": [
            {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        ]
    }
    if settings.class_name is not None:
        spec["ingressClassName"] = settings.class_name
    if settings.tls_secret is not None:
        spec["tls"] = [{"hosts": [host], "secretName": settings.tls_secret}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(stack, suffix, annotations),
        "spec": spec,
    }


def _routes(stack: Stack) -> list[Manifest]:
    settings = stack.kubernetes.route
    if settings is None:
        return []
    made = []
    for kind, port, section in (
        ("HTTPRoute", stack.gateway.http, settings.http_section),
        ("GRPCRoute", stack.gateway.grpc, settings.grpc_section),
    ):
        parent: Manifest = {"name": settings.gateway}
        parent |= {"namespace": settings.namespace} if settings.namespace is not None else {}
        parent |= {"sectionName": section} if section is not None else {}
        rule: Manifest = {"backendRefs": [{"name": labels.of(stack, labels.GATEWAY), "port": port}]}
        if kind == "HTTPRoute":
            # An answer about a long recording takes minutes, and a stream an hour.
            rule["timeouts"] = {"request": "0s", "backendRequest": "0s"}
        made.append(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": kind,
                "metadata": _metadata(stack),
                "spec": {
                    "parentRefs": [parent],
                    "hostnames": [stack.gateway.public_host],
                    "rules": [rule],
                },
            }
        )
    return made
