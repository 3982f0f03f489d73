"""What the cluster's API said: the objects of a stack's namespace and the machines, by kind."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infra.doctor.cluster.api import ClusterApi, Refused
from infra.doctor.host_access import NoAnswer, Unreachable
from infra.kubernetes import labels
from infra.stack import Stack

Object = Mapping[str, Any]
#: Names without contents, of kinds that may hold secrets.
_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_HIDDEN = {"secrets", "configmaps"}
#: Kinds in the stack's namespace, by the API group and version that serves them.
NAMESPACED: Mapping[str, str] = {
    "deployments": "apis/apps/v1",
    "replicasets": "apis/apps/v1",
    "pods": "api/v1",
    "services": "api/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
    "events": "api/v1",
    "secrets": "api/v1",
    "configmaps": "api/v1",
    "serviceaccounts": "api/v1",
    "persistentvolumeclaims": "api/v1",
    "poddisruptionbudgets": "apis/policy/v1",
    "networkpolicies": "apis/networking.k8s.io/v1",
    "horizontalpodautoscalers": "apis/autoscaling/v2",
}
#: Kinds of extensions: a cluster without the extension answers 404.
EXTENSIONS: Mapping[str, str] = {
    "scaledobjects": "apis/keda.sh/v1alpha1",
    "podmonitors": "apis/monitoring.coreos.com/v1",
    "prometheusrules": "apis/monitoring.coreos.com/v1",
    "certificates": "apis/cert-manager.io/v1",
    "httproutes": "apis/gateway.networking.k8s.io/v1",
    "grpcroutes": "apis/gateway.networking.k8s.io/v1",
    "ingresses": "apis/networking.k8s.io/v1",
}
#: Kinds of the whole cluster.
GLOBAL: Mapping[str, str] = {"nodes": "api/v1", "runtimeclasses": "apis/node.k8s.io/v1"}
#: The pods of all namespaces, which may use GPUs too.
ALL_PODS = "pods of all namespaces"
_MISSING = 404


@dataclass(frozen=True, slots=True)
class Seen:
    """The objects by kind; `refused` has the API server's message for each kind that it did not list, and
    `absent` the kinds that the cluster does not know."""

    objects: Mapping[str, Sequence[Object]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()

    def of(self, kind: str) -> Sequence[Object]:
        """The objects of a kind; none where the API server did not list them."""
        return self.objects.get(kind, ())

    def knows(self, kind: str) -> bool:
        """Whether the API server listed the objects of a kind."""
        return kind in self.objects

    def named(self, kind: str, name: str) -> Object | None:
        """The object of that kind and name."""
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    def events(self, kind: str, name: str, *reasons: str) -> list[Object]:
        """The events of one object, oldest first, of these reasons."""
        found = [
            each
            for each in self.of("events")
            if each["involvedObject"].get("kind") == kind
            and each["involvedObject"].get("name") == name
            and (not reasons or each.get("reason") in reasons)
        ]
        return sorted(found, key=when)


def when(event: Object) -> str:
    """The time of an event's last occurrence, as the API writes it."""
    series = event.get("series") or {}
    told = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(told or event["metadata"].get("creationTimestamp") or "")


def kinds(stack: Stack) -> dict[str, str]:
    """The path of each list that the checks of a stack use."""
    namespace = stack.kubernetes.namespace
    wanted = dict(NAMESPACED) | {kind: EXTENSIONS[kind] for kind in extensions(stack)}
    if not any(each.autoscale is not None and each.autoscale.by == "hpa" for each in stack.pools):
        wanted.pop("horizontalpodautoscalers")
    paths = {kind: f"/{group}/namespaces/{namespace}/{kind}" for kind, group in wanted.items()}
    paths |= {kind: f"/{group}/{kind}" for kind, group in GLOBAL.items()}
    if any(each.gpus for each in stack.pools):
        running = "?fieldSelector=status.phase!=Succeeded,status.phase!=Failed"
        paths[ALL_PODS] = f"/api/v1/pods{running}"
    return paths


def extensions(stack: Stack) -> list[str]:
    """The kinds of extensions that a stack needs in its cluster."""
    kubernetes = stack.kubernetes
    needed = []
    if any(each.autoscale is not None and each.autoscale.by == "keda" for each in stack.pools):
        needed.append("scaledobjects")
    if kubernetes.monitoring.by == "operator":
        needed += ["podmonitors", "prometheusrules"]
    if kubernetes.tls is not None and kubernetes.tls.cert_manager is not None:
        needed.append("certificates")
    if kubernetes.route is not None:
        needed += ["httproutes", "grpcroutes"]
    if kubernetes.ingress is not None:
        needed.append("ingresses")
    return needed


async def look(api: ClusterApi, stack: Stack) -> Seen:
    """Ask for all lists at once. Raises Unreachable, NoAnswer where the API server does not answer at all."""
    asked = kinds(stack)
    told = await asyncio.gather(
        *(_listed(api, kind, path) for kind, path in asked.items()), return_exceptions=True
    )
    objects: dict[str, Sequence[Object]] = {}
    refused: dict[str, str] = {}
    absent = set()
    for kind, answer in zip(asked, told, strict=True):
        if isinstance(answer, Refused) and answer.status == _MISSING:
            absent.add(kind)
        elif isinstance(answer, Refused | NoAnswer | Unreachable):
            refused[kind] = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            objects[kind] = answer
    return Seen(objects, refused, frozenset(absent))


async def _listed(api: ClusterApi, kind: str, path: str) -> list[Object]:
    told = await api.json(path, _METADATA if kind in _HIDDEN else "application/json")
    return list(told.get("items") or [])  # an empty list of events is null


def pods_of(stack: Stack, seen: Seen, part: str) -> list[Object]:
    """The pods of a pool, by name, or of the gateway, that are not about to end."""
    return [
        each
        for each in seen.of("pods")
        if _is_of(stack, part, each) and not each["metadata"].get("deletionTimestamp")
    ]


def deployments_of(stack: Stack, seen: Seen, part: str) -> list[Object]:
    """The Deployments of a pool, by name, or of the gateway: a pool may have one of canaries beside it."""
    return [each for each in seen.of("deployments") if _is_of(stack, part, each)]


def _is_of(stack: Stack, part: str, found: Object) -> bool:
    if part == labels.GATEWAY:
        selecting = labels.of_gateway(stack)
    else:
        [pool] = [each for each in stack.pools if each.name == part]
        selecting = labels.of_pool(stack, pool)
    return selecting.items() <= found["metadata"].get("labels", {}).items()
