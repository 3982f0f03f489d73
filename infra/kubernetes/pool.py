"""The objects of a pool: its Secret, its Service, its Deployments, its PodDisruptionBudget."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from inference_service import addresses
from infra.digest import digest
from infra.kubernetes import gates, labels, models, monitoring, pods, runtimes, service
from infra.kubernetes.labels import Manifest
from infra.stack import Stack
from infra.stack.pools import Pool

#: Seconds in which the scheduler finds a place and a machine pulls images, beside the time for the start.
_PLACE_SECONDS = 600


def objects(
    stack: Stack,
    pool: Pool,
    images: Mapping[str, str],
    pull_secret: str | None,
    rolled_back: Mapping[str, str] = MappingProxyType({}),
) -> list[Manifest]:
    """All objects of a pool, each after those that it needs.

    `images` are references by part. `rolled_back` says when an update that failed put back a Deployment, by
    its name: this update sets it again.
    """
    made = [service.secret(stack, pool), headless_service(stack, pool)]
    for track in tracks(stack, pool):
        changing = deployment(stack, pool, track, images, pull_secret)
        if (when := rolled_back.get(changing["metadata"]["name"])) is not None:
            changing["metadata"]["annotations"][labels.AGAIN] = when
        made += [changing, gates.gate(stack, pool, track, changing)]
    return [*made, disruption_budget(stack, pool)]


def canaries(stack: Stack, pool: Pool) -> int:
    """How many of a pool's pods change before the others; others stay, so none of a single pod."""
    return max(min(stack.rollout.canary, pool.least - 1), 0)


def tracks(stack: Stack, pool: Pool) -> list[str]:
    """A pool's Deployments, in the order in which they change."""
    return [labels.CANARY, labels.STABLE] if canaries(stack, pool) else [labels.STABLE]


def deployment_name(stack: Stack, pool: Pool, track: str) -> str:
    """The name of one of a pool's Deployments."""
    return labels.of(stack, pool.name, labels.CANARY if track == labels.CANARY else "")


def headless_service(stack: Stack, pool: Pool) -> Manifest:
    """The Service whose name has the addresses of all ready pods: the gateway balances over them itself."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labels.metadata(stack, labels.of(stack, pool.name), labels.of_pool(stack, pool)),
        "spec": {
            "clusterIP": "None",
            "selector": {**labels.of_pool(stack, pool), labels.TRAFFIC: labels.ON},
            "ports": [
                {"name": service.HTTP, "port": addresses.HTTP_PORT, "targetPort": service.HTTP},
                {"name": service.GRPC, "port": addresses.GRPC_PORT, "targetPort": service.GRPC},
            ],
        },
    }


def deployment(
    stack: Stack, pool: Pool, track: str, images: Mapping[str, str], pull_secret: str | None
) -> Manifest:
    """The Deployment of a pool's canaries, or of its other pods; `track` is CANARY or STABLE."""
    selecting = labels.of_track(stack, pool, track)
    made = template(stack, pool, images, pull_secret)
    made["metadata"]["annotations"][labels.REVISION] = digest((), json.dumps(made, sort_keys=True))
    made["metadata"]["labels"] = labels.of_object({**selecting, labels.TRAFFIC: labels.ON})
    spec: Manifest = {
        "selector": {"matchLabels": selecting},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(stack, pool)},
        "progressDeadlineSeconds": progress_seconds(stack),
        "revisionHistoryLimit": 5,
        "template": made,
    }
    first = canaries(stack, pool)
    if track == labels.CANARY:
        spec["replicas"] = first
    # Else the autoscaler decides how many there are.
    elif pool.autoscale is None:
        spec["replicas"] = pool.replicas - first
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labels.metadata(
            stack, deployment_name(stack, pool, track), selecting, gates.DEPLOYMENT_ANNOTATIONS
        ),
        "spec": spec,
    }


def progress_seconds(stack: Stack) -> int:
    """How long the next pod may take before the rollout has failed."""
    return _PLACE_SECONDS + runtimes.start_seconds(stack)


def rollout_seconds(stack: Stack, pool: Pool) -> int:
    """How long the change of a pool's pods may take: they change one batch after the other."""
    most = max(pool.most, 1)
    batches = -(-most // stack.rollout.batch_size(most))
    return progress_seconds(stack) * batches


def template(stack: Stack, pool: Pool, images: Mapping[str, str], pull_secret: str | None) -> Manifest:
    """The pods of a pool."""
    annotations = monitoring.annotations(stack)
    models_revision = models.revision(stack) if pool.runtime != "remote" else None
    if models_revision is not None:
        annotations[labels.MODELS] = models_revision
    made = dict(images)
    spec: Manifest = {
        "initContainers": runtimes.containers(stack, pool, made, service.secret_name(stack, pool)),
        "containers": [service.container(stack, pool, made["service"])],
        "volumes": [*runtimes.volumes(stack, pool), *service.volumes(stack, pool)],
        "securityContext": pods.pod_security(runtimes.user(stack, pool)),
        "terminationGracePeriodSeconds": service.grace_seconds(stack),
        # Pods of one pool go to different machines where there are some.
        "topologySpreadConstraints": [spread(labels.of_pool(stack, pool))],
        "automountServiceAccountToken": False,
        # The variables that Kubernetes adds for each Service look like the service's own settings.
        "enableServiceLinks": False,
    }
    if not spec["initContainers"]:
        del spec["initContainers"]
    if pool.gpus and stack.kubernetes.runtime_class is not None:
        spec["runtimeClassName"] = stack.kubernetes.runtime_class
    if pull_secret is not None:
        spec["imagePullSecrets"] = [{"name": pull_secret}]
    if pool.service_account is not None:
        spec["serviceAccountName"] = pool.service_account
    if pool.selector:
        spec["nodeSelector"] = dict(sorted(pool.selector.items()))
    if pool.tolerations:
        spec["tolerations"] = [each.model_dump(by_alias=True, exclude_none=True) for each in pool.tolerations]
    return {
        "metadata": {
            "labels": labels.of_object(labels.of_pool(stack, pool)),
            "annotations": dict(sorted(annotations.items())),
        },
        "spec": spec,
    }


def spread(selecting: dict[str, str]) -> Manifest:
    """Spreads pods over machines, without keeping any from starting."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selecting},
        # Pods of a new revision count for themselves.
        "matchLabelKeys": ["pod-template-hash"],
    }


def disruption_budget(stack: Stack, pool: Pool) -> Manifest:
    """How many pods must stay when machines are emptied."""
    least = stack.rollout.min_healthy
    kept: Manifest = {"maxUnavailable": 1} if least is None else {"minAvailable": least}
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": labels.metadata(stack, labels.of(stack, pool.name), labels.of_pool(stack, pool)),
        "spec": {
            **kept,
            "selector": {"matchLabels": labels.of_pool(stack, pool)},
            # A pod that is not ready serves nobody, and must not keep its machine.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def _rolling(stack: Stack, pool: Pool) -> Manifest:
    batch = stack.rollout.batch
    if pool.update == "replace":
        return {"maxSurge": 0, "maxUnavailable": batch}
    return {"maxSurge": batch, "maxUnavailable": 0}
