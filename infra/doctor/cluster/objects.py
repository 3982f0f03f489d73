"""The stack's objects against the stack file: those that are missing, differ, or were changed by hand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.doctor.cluster.placement import redeploy
from infra.doctor.cluster.seen import Object, Seen
from infra.doctor.findings import Outcome, problem, warning, worst
from infra.kubernetes import content_names, labels
from infra.kubernetes.labels import Manifest
from infra.stack import Stack

#: The list of each kind of object that the stack declares.
LISTS: Mapping[str, str] = {
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "Service": "services",
    "Deployment": "deployments",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "NetworkPolicy": "networkpolicies",
    "ScaledObject": "scaledobjects",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "Certificate": "certificates",
    "HTTPRoute": "httproutes",
    "GRPCRoute": "grpcroutes",
    "Ingress": "ingresses",
}
#: Managers of fields that people's commands write. A restart is no change of what the stack declares.
_BY_HAND, _RESTART = "kubectl", "kubectl-rollout"
_OWN = "pulumi"
_MOST_TOLD = 6


def objects(stack: Stack, declared: Sequence[Manifest], seen: Seen) -> Outcome:
    """Whether every declared object is there, as the stack file has it, and unchanged by hand."""
    looked = [each for each in declared if seen.knows(LISTS.get(each["kind"], ""))]
    # Only Pulumi decrypts: then nobody here knows the content of what pods read, nor the names that tell it.
    exact = not stack.encrypted
    if looked and not any(_found(seen, each, exact) for each in looked):
        return problem(
            f"none of the stack's {len(looked)} objects is in the namespace "
            f"{stack.kubernetes.namespace}: it is not deployed there",
            f"fleet deploy -s {stack.name}; if it was there and somebody deleted it: {redeploy(stack)}",
        )
    outcomes = []
    for each in looked:
        kind, name = each["kind"], each["metadata"]["name"]
        found = _found(seen, each, exact)
        if found is None:
            outcomes.append(warning(f"{kind} {name} is not in the cluster", redeploy(stack)))
            continue
        if (labels.ROLLED_BACK in found["metadata"].get("annotations", {})) and kind == "Deployment":
            continue  # the finding of the part says that its pods are those of before
        if hands := by_hand(found):
            shown = (
                f"fleet preview --refresh -s {stack.name} shows what differs; {redeploy(stack)} sets it again"
            )
            outcomes += [warning(f"{kind} {name}: {words}", shown) for words in hands]
        elif kind == "Deployment":
            newer = f"the stack file or the project is newer than the cluster: fleet deploy -s {stack.name}"
            outcomes += [
                warning(f"{kind} {name}: {words}", newer) for words in differences(each, found, exact)
            ]
    told = outcomes[:_MOST_TOLD]
    if len(outcomes) > _MOST_TOLD:
        told.append(warning(f"and {len(outcomes) - _MOST_TOLD} more", outcomes[-1].remedy))
    return worst(told, f"{len(declared)} objects are as declared")


def _found(seen: Seen, declared: Manifest, exact: bool) -> Object | None:
    """The object of a declared one. Not `exact`: another one of its kind, whose content nobody here knows."""
    kind, name = LISTS[declared["kind"]], declared["metadata"]["name"]
    base = content_names.without(name)
    if exact or base == name:
        return seen.named(kind, name)
    return next(
        (each for each in seen.of(kind) if content_names.without(each["metadata"]["name"]) == base), None
    )


def by_hand(found: Object) -> list[str]:
    """What somebody changed by kubectl on an object that Pulumi made; empty for those of others."""
    fields = found["metadata"].get("managedFields") or []
    if not any(each.get("manager", "").startswith(_OWN) for each in fields):
        return []
    told = []
    for each in fields:
        manager = each.get("manager", "")
        if not manager.startswith(_BY_HAND) or manager == _RESTART or each.get("subresource") == "status":
            continue
        paths = [path for path in _paths(each.get("fieldsV1") or {}) if path.startswith(("spec", "data"))]
        if paths:
            some = ", ".join(paths[:3]) + (" …" if len(paths) > 3 else "")
            told.append(f"{manager} changed {some} at {each.get('time', 'an unknown time')}")
    return told


def _paths(fields: Mapping[str, Any], begin: str = "") -> Iterator[str]:
    """The fields in a set of managed fields, as people write paths."""
    inner = {key: value for key, value in fields.items() if key != "."}
    if not inner and begin:
        yield begin
    for key, value in inner.items():
        name = key.partition(":")[2] if key.startswith("f:") else f"[{key.partition(':')[2]}]"
        joined = f"{begin}.{name}" if begin and not name.startswith("[") else f"{begin}{name}"
        yield from _paths(value, joined)


def differences(declared: Manifest, found: Object, exact: bool = True) -> Iterator[str]:
    """What a Deployment has otherwise than the stack file declares: pods, images, settings, models.

    Not `exact`: the settings are not known here.
    """
    wanted, there = declared["spec"], found["spec"]
    if "replicas" in wanted and wanted["replicas"] != there.get("replicas"):
        yield f"it has {there.get('replicas')} pods, declared are {wanted['replicas']}"
    images = _images(there["template"]["spec"])
    for name, image in _images(wanted["template"]["spec"]).items():
        if images.get(name) != image:
            yield f"the image of {name} is {images.get(name)}, declared is {image}"
    elsewhere = images == _images(wanted["template"]["spec"])
    new = wanted["template"]["metadata"].get("annotations", {})
    old = there["template"]["metadata"].get("annotations", {})
    if elsewhere and new.get(labels.MODELS) != old.get(labels.MODELS):
        yield "its pods have other models than the stack file declares"
    elif elsewhere and exact and new.get(labels.REVISION) != old.get(labels.REVISION):
        yield "its pods have other settings than the stack file declares"


def _images(template: Mapping[str, Any]) -> dict[str, str]:
    return {
        each["name"]: each["image"]
        for each in [*(template.get("initContainers") or []), *template["containers"]]
    }
