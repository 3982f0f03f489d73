"""What pods need and the stack does not make, or somebody deleted: claims, Secrets, ConfigMaps, accounts."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from infra.doctor.cluster.placement import redeploy
from infra.doctor.cluster.seen import Object, Seen, deployments_of, pods_of
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.kubernetes import labels
from infra.kubernetes.gateway import certificate_secret
from infra.kubernetes.kubectl import shown
from infra.kubernetes.state import condition
from infra.stack import Stack

#: Access modes with which pods on several machines may read a volume.
_MANY = {"ReadOnlyMany", "ReadWriteMany"}
_CLAIM_SIZE = "50Gi"


def _templates(stack: Stack, part: str, seen: Seen) -> list[Mapping[str, Any]]:
    """The pods that a part's Deployments make."""
    return [each["spec"]["template"]["spec"] for each in deployments_of(stack, seen, part)]


def claims(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Whether the claims of a part's pods are there and bound, and whether many pods may read them."""
    found = {
        volume["persistentVolumeClaim"]["claimName"]: None
        for template in _templates(stack, part, seen)
        for volume in template.get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    wanted = list(found)
    if not seen.knows("persistentvolumeclaims"):
        return ok("not known: this user may not list claims")
    outcomes = [_claim(stack, part, name, seen) for name in wanted]
    names = [f"{name} is bound" for name in wanted]
    return worst([*outcomes, *_mounts(stack, part, seen)], ", ".join(names) or "its pods use none")


def _claim(stack: Stack, part: str, name: str, seen: Seen) -> Outcome:
    found = seen.named("persistentvolumeclaims", name)
    if found is None:
        return problem(
            f'persistentvolumeclaim "{name}" not found',
            f"create it and copy the models to it:\necho '{json.dumps(_declared(name))}' | {shown(stack)} "
            "apply --filename=-\nor set models.source to a claim that exists, an image, or an object store",
        )
    phase = found.get("status", {}).get("phase")
    modes = set(found["spec"].get("accessModes", []))
    events = seen.events("PersistentVolumeClaim", name)
    if phase == "Lost":
        return problem(f"the claim {name} has lost its volume", f"{shown(stack)} describe pvc {name}")
    if phase != "Bound":
        words = [event["message"] for event in events if event.get("message")]
        return problem(
            f"the claim {name} is {phase}: {words[-1] if words else 'nothing is said of it'}",
            _unbound(stack, found, name, words[-1] if words else ""),
        )
    pool = next((each for each in stack.pools if each.name == part), None)
    if pool is None or modes & _MANY:
        return ok("")
    together = pool.most > 1 or pool.update == "surge"
    if not together:
        return ok("")
    limited = f"the claim {name} allows {', '.join(sorted(modes))}: pods on a second machine cannot read it"
    return warning(
        limited,
        "access modes of a claim cannot be changed: make another claim with ReadOnlyMany or ReadWriteMany, "
        "copy the models to it, and name it in models.source",
    )


def _unbound(stack: Stack, claim: Object, name: str, words: str) -> str:
    classes = f"{shown(stack, namespaced=False)} get storageclass"
    if "waiting for first consumer" in words or "WaitForFirstConsumer" in words:
        return "it waits for its first pod: see the finding machine"
    if "no storage class is set" in words or not claim["spec"].get("storageClassName"):
        return (
            "make a PersistentVolume for it, or make the claim anew with spec.storageClassName of a class "
            f"that this lists: {classes}"
        )
    if "not found" in words:
        return f"make the claim anew with spec.storageClassName of a class that this lists: {classes}"
    return f"correct what the storage says: {shown(stack)} describe pvc {name}"


def _declared(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": _CLAIM_SIZE}},
        },
    }


def _mounts(stack: Stack, part: str, seen: Seen) -> Iterator[Outcome]:
    """Volumes that the kubelet cannot mount, of pods that do not run because of it."""
    for pod in pods_of(stack, seen, part):
        if pod.get("status", {}).get("phase") != "Pending":
            continue
        events = seen.events("Pod", pod["metadata"]["name"], "FailedMount", "FailedAttachVolume")
        if events:
            name = pod["metadata"]["name"]
            yield problem(f"{name}: {events[-1]['message']}", f"{shown(stack)} describe pod {name}")
            return


def referenced(template: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and name of each object that pods cannot start without."""
    for volume in template.get("volumes", []):
        secret, config = volume.get("secret", {}), volume.get("configMap", {})
        if secret.get("secretName") and not secret.get("optional"):
            yield "secrets", secret["secretName"]
        if config.get("name") and not config.get("optional"):
            yield "configmaps", config["name"]
    for container in [*template.get("initContainers", []), *template.get("containers", [])]:
        for variable in container.get("env", []):
            given = variable.get("valueFrom", {})
            for key, kind in (("secretKeyRef", "secrets"), ("configMapKeyRef", "configmaps")):
                if key in given and not given[key].get("optional"):
                    yield kind, given[key]["name"]
    for secret in template.get("imagePullSecrets", []):
        yield "secrets", secret["name"]
    if template.get("serviceAccountName"):
        yield "serviceaccounts", template["serviceAccountName"]
    if template.get("runtimeClassName"):
        yield "runtimeclasses", template["runtimeClassName"]


_SINGULAR = {
    "secrets": "Secret",
    "configmaps": "ConfigMap",
    "serviceaccounts": "ServiceAccount",
    "runtimeclasses": "RuntimeClass",
}


def objects(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Whether the Secrets, ConfigMaps, ServiceAccount and RuntimeClass that a part's pods name are there."""
    templates = _templates(stack, part, seen)
    wanted = list(dict.fromkeys(each for template in templates for each in referenced(template)))
    missing = [
        problem(f"{_SINGULAR[kind]} {name} not found, which the pods name", _remedy(stack, kind, name, seen))
        for kind, name in wanted
        if seen.knows(kind) and seen.named(kind, name) is None
    ]
    return worst(missing, f"all {len(wanted)} are there" if wanted else "its pods name none")


def _remedy(stack: Stack, kind: str, name: str, seen: Seen) -> str:
    start, tls = shown(stack), stack.kubernetes.tls
    if kind == "secrets" and tls is not None and name == certificate_secret(stack):
        if tls.secret is not None:
            return f"{start} create secret tls {name} --cert=CERTIFICATE.pem --key=KEY.pem"
        return f"cert-manager writes it: {start} describe certificate {name}"
    if kind == "serviceaccounts":
        return f"{start} create serviceaccount {name}"
    if kind == "runtimeclasses":
        there = ", ".join(each["metadata"]["name"] for each in seen.of("runtimeclasses")) or "none"
        return (
            "take kubernetes.runtimeClass out of the stack file or set it to one that is there "
            f"({there}); NVIDIA's GPU Operator makes the class nvidia"
        )
    return redeploy(stack)


def issued(stack: Stack, seen: Seen) -> Outcome | None:
    """Whether cert-manager has issued the gateway's certificate; None where it is not asked to."""
    tls = stack.kubernetes.tls
    if tls is None or tls.cert_manager is None:
        return None
    if "certificates" in seen.absent:
        return problem(
            "the cluster does not know Certificates of cert-manager.io",
            "install cert-manager (helm chart cert-manager with crds.enabled=true), or set "
            "kubernetes.tls.secret",
        )
    found = seen.named("certificates", labels.of(stack, labels.GATEWAY))
    if found is None:
        return problem("there is no Certificate", redeploy(stack)) if seen.knows("certificates") else None
    state = condition(found, "Ready")
    if state.get("status") == "True":
        return ok("cert-manager has issued it")
    name = found["metadata"]["name"]
    return problem(
        f"cert-manager has not issued {name}: {state.get('message', 'it says nothing yet')}",
        f"{shown(stack)} describe certificate,certificaterequest,order,challenge",
    )
