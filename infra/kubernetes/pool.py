"""The objects of a pool: its Secret, its Service, its Deployment, its PodDisruptionBudget."""

from collections.abc import Mapping

from inference_service import addresses
from infra.kubernetes import labels, models, monitoring, pods, runtimes, service
from infra.kubernetes.labels import Manifest
from infra.stack import Stack
from infra.stack.pools import Pool

#: Seconds in which the scheduler finds a place and a machine pulls images, beside the time for the start.
_PLACE_SECONDS = 600


def objects(stack: Stack, pool: Pool, images: Mapping[str, str], pull_secret: str | None) -> list[Manifest]:
    """All objects of a pool, each after those that it needs. `images` are references by part."""
    return [
        service.secret(stack, pool),
        headless_service(stack, pool),
        deployment(stack, pool, images, pull_secret),
        disruption_budget(stack, pool),
    ]


def headless_service(stack: Stack, pool: Pool) -> Manifest:
    """The Service whose name has the addresses of all ready pods: the gateway balances over them itself."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": labels.metadata(stack, labels.of(stack, pool.name), labels.of_pool(stack, pool)),
        "spec": {
            "clusterIP": "None",
            "selector": labels.of_pool(stack, pool),
            "ports": [
                {"name": service.HTTP, "port": addresses.HTTP_PORT, "targetPort": service.HTTP},
                {"name": service.GRPC, "port": addresses.GRPC_PORT, "targetPort": service.GRPC},
            ],
        },
    }


def deployment(stack: Stack, pool: Pool, images: Mapping[str, str], pull_secret: str | None) -> Manifest:
    """The Deployment of a pool's pods."""
    spec: Manifest = {
        "selector": {"matchLabels": labels.of_pool(stack, pool)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _rolling(stack, pool)},
        "progressDeadlineSeconds": progress_seconds(stack),
        "revisionHistoryLimit": 5,
        "template": template(stack, pool, images, pull_secret),
    }
    # The autoscaler decides how many there are.
    if pool.autoscale is None:
        spec["replicas"] = pool.replicas
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": labels.metadata(stack, labels.of(stack, pool.name), labels.of_pool(stack, pool)),
        "spec": spec,
    }


def progress_seconds(stack: Stack) -> int:
    """How long the next pod may take before the rollout has failed."""
    return _PLACE_SECONDS + runtimes.start_seconds(stack)


def template(stack: Stack, pool: Pool, images: Mapping[str, str], pull_secret: str | None) -> Manifest:
    """The pods of a pool."""
    annotations = {labels.SETTINGS: service.revision(stack, pool), **monitoring.annotations(stack)}
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
