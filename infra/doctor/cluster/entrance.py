"""The way of requests: the gateway's address and certificate, and the pods behind each Service."""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cryptography import x509

from infra.doctor.checks.certificate import covers, expiry, names
from infra.doctor.cluster.placement import redeploy
from infra.doctor.cluster.seen import Seen, deployments_of, pods_of
from infra.doctor.findings import Outcome, Status, ok, problem, skipped, warning, worst
from infra.kubernetes import labels
from infra.kubernetes.gateway import certificate_secret
from infra.kubernetes.kubectl import shown
from infra.kubernetes.state import is_ready
from infra.stack import Stack

_SERVICE_OF = "kubernetes.io/service-name"


def endpoints(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Whether the Service of a part has the address of each pod that is ready."""
    name = labels.of(stack, part)
    if seen.knows("services") and seen.named("services", name) is None:
        return problem(f"the Service {name} is not in the cluster", redeploy(stack))
    if not seen.knows("endpointslices"):
        return ok("not known: this user may not list EndpointSlices")
    behind = {
        str((endpoint.get("targetRef") or {}).get("name"))
        for each in seen.of("endpointslices")
        if each["metadata"].get("labels", {}).get(_SERVICE_OF) == name
        for endpoint in each.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready", True)
    }
    pods = pods_of(stack, seen, part)
    off = {
        pod["metadata"]["name"] for pod in pods if pod["metadata"]["labels"].get(labels.TRAFFIC) == labels.OFF
    }
    ready = {pod["metadata"]["name"] for pod in pods if is_ready(pod)}
    left = sorted(ready - behind - off)
    if left:
        service = seen.named("services", name) or {}
        chosen = (service.get("spec") or {}).get("selector")
        return problem(
            f"ready, and not behind the Service {name}: {', '.join(left)}; it selects {chosen}",
            redeploy(stack),
        )
    if not behind:
        wanted = sum(each["spec"].get("replicas", 1) for each in deployments_of(stack, seen, part))
        return skipped(["deployment"]) if wanted else ok("it has no pods, as declared")
    if off:
        return warning(
            f"an update found them bad and took them from the Service {name}: {', '.join(sorted(off))}",
            f"fleet deploy -s {stack.name} starts them anew; {shown(stack)} logs POD --all-containers",
        )
    return ok(f"{len(behind)} {'pod is' if len(behind) == 1 else 'pods are'} behind the Service {name}")


def address(stack: Stack, seen: Seen, now: datetime) -> Outcome:
    """Whether clients can reach the gateway: its Service, Ingress or Routes have an address."""
    name = labels.of(stack, labels.GATEWAY)
    found = seen.named("services", name)
    if found is None:
        if not seen.knows("services"):
            return ok("not known: this user may not list Services")
        return problem(f"the Service {name} is not in the cluster", redeploy(stack))
    outcomes = [_service(stack, found, seen, now)]
    kubernetes = stack.kubernetes
    if kubernetes.ingress is not None:
        outcomes += _ingresses(stack, seen)
    if kubernetes.route is not None:
        outcomes += _routes(stack, seen)
    return worst(outcomes, "; ".join(each.seen for each in outcomes if each.seen))


def _service(stack: Stack, service: Mapping[str, Any], seen: Seen, now: datetime) -> Outcome:
    name, kind = service["metadata"]["name"], service["spec"].get("type", "ClusterIP")
    ports = ", ".join(
        f"{each['name']} {each.get('nodePort', each['port'])}" for each in service["spec"]["ports"]
    )
    if kind != "LoadBalancer":
        return ok(f"{kind} {name}, ports {ports}")
    given = [
        each.get("ip") or each.get("hostname")
        for each in service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    ]
    if given:
        return ok(f"LoadBalancer {name} has {', '.join(given)}")
    told = [event["message"] for event in seen.events("Service", name) if event.get("message")]
    age = int((now - datetime.fromisoformat(service["metadata"]["creationTimestamp"])).total_seconds())
    words = f"the Service {name} of type LoadBalancer has no address after {age} s"
    return problem(
        f"{words}: {told[-1]}" if told else f"{words}, and nothing is said of it",
        "correct what the load balancer's controller says"
        if told
        else "the cluster has no controller for load balancers: install one (a cloud's, or MetalLB), or set "
        f"kubernetes.service.type: NodePort, then fleet deploy -s {stack.name}",
    )


def _ingresses(stack: Stack, seen: Seen) -> list[Outcome]:
    found = [
        each
        for each in seen.of("ingresses")
        if each["metadata"].get("labels", {}).get(labels.STACK) == stack.name
    ]
    if seen.knows("ingresses") and not found:
        return [problem("the stack's Ingress is not in the cluster", redeploy(stack))]
    outcomes = []
    for each in found:
        name = each["metadata"]["name"]
        if each.get("status", {}).get("loadBalancer", {}).get("ingress"):
            outcomes.append(ok(f"Ingress {name} has an address"))
        else:
            outcomes.append(
                warning(
                    f"no controller has given the Ingress {name} an address",
                    "set kubernetes.ingress.className to a class that this lists: "
                    f"{shown(stack, namespaced=False)} get ingressclass",
                )
            )
    return outcomes


def _routes(stack: Stack, seen: Seen) -> list[Outcome]:
    outcomes = []
    for kind in ("httproutes", "grpcroutes"):
        if kind in seen.absent:
            outcomes.append(
                problem(
                    f"the cluster does not know {kind} of gateway.networking.k8s.io",
                    "install the Gateway API and a controller for it, or use kubernetes.service or .ingress",
                )
            )
        for each in seen.of(kind):
            if each["metadata"].get("labels", {}).get(labels.STACK) != stack.name:
                continue
            name = each["metadata"]["name"]
            refused = [
                state.get("message", state["reason"])
                for parent in each.get("status", {}).get("parents") or []
                for state in parent.get("conditions") or []
                if state["type"] in ("Accepted", "ResolvedRefs") and state["status"] == "False"
            ]
            if refused:
                told = problem(f"{name}: {'; '.join(refused)}", "correct kubernetes.route in the stack file")
            elif not each.get("status", {}).get("parents"):
                told = warning(
                    f"no Gateway has taken the route {name}",
                    f"correct kubernetes.route.gateway: {shown(stack, namespaced=False)} get gateways -A",
                )
            else:
                told = ok(f"route {name} is accepted")
            outcomes.append(told)
    return outcomes


def certificate(stack: Stack, secret: Mapping[str, Any] | None, now: datetime) -> Outcome:
    """Whether the gateway's certificate is valid for its name, and for how long. None: it is not there."""
    name, tls = certificate_secret(stack), stack.kubernetes.tls
    assert tls is not None
    update = f"create secret tls {name} --cert=CERTIFICATE.pem --key=KEY.pem --dry-run=client --output=yaml"
    remedy = f"{shown(stack)} {update} | {shown(stack)} apply --filename=-"
    if tls.cert_manager is not None:
        remedy = f"cert-manager renews it: {shown(stack)} describe certificate"
    if secret is None:
        return problem(f'secrets "{name}" not found', remedy)
    encoded = secret.get("data", {}).get("tls.crt")
    if encoded is None:
        return problem(f"the Secret {name} has no tls.crt", remedy)
    try:
        found = x509.load_pem_x509_certificate(base64.b64decode(encoded))
    except (ValueError, binascii.Error) as error:
        return problem(f"tls.crt of the Secret {name} is not a certificate: {error}", remedy)
    outcome = expiry(found.not_valid_after_utc, now.astimezone(UTC), remedy)
    if outcome.status is Status.OK and not covers(names(found), stack.gateway.public_host):
        own = ", ".join(names(found)) or "no name"
        return warning(
            f"the certificate is for {own}, not for {stack.gateway.public_host}",
            "set gateway.publicHost to a name of the certificate, or get a certificate for that name",
        )
    return outcome
