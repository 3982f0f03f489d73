"""How many pods a pool has, by what they do: a HorizontalPodAutoscaler, or a ScaledObject of KEDA."""

from infra.kubernetes import labels
from infra.kubernetes.labels import Manifest
from infra.kubernetes.pool import canaries
from infra.stack import Stack
from infra.stack.pools import Autoscale, Pool

#: The service's own metrics (inference_service/metrics.py).
RUNNING, QUEUED = "ai_inferences_running", "ai_inferences_queued"
#: The share of `service.maxConcurrency` that may run in a pod before there are more pods.
_FULL = 0.7
#: KEDA asks Prometheus so often.
_POLL_SECONDS = 15


def running(stack: Stack, autoscale: Autoscale) -> float:
    """Inferences that run in a pod, on average, above which there are more pods."""
    return autoscale.running or max(1.0, round(stack.service.max_concurrency * _FULL, 1))


def objects(stack: Stack, pool: Pool) -> list[Manifest]:
    """The autoscaler of a pool, whose canaries are always there; none for a fixed number."""
    if pool.autoscale is None:
        return []
    if pool.autoscale.by == "keda":
        return [_scaled_object(stack, pool, pool.autoscale)]
    return [_horizontal(stack, pool, pool.autoscale)]


def _metadata(stack: Stack, pool: Pool) -> Manifest:
    return labels.metadata(stack, labels.of(stack, pool.name), labels.of_pool(stack, pool))


def _behaviour(autoscale: Autoscale) -> Manifest:
    """Up at once, down one pod a minute after a quiet time: a pod takes minutes to load its models."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 60},
                {"type": "Pods", "value": 2, "periodSeconds": 60},
            ],
            "selectPolicy": "Max",
        },
        "scaleDown": {
            "stabilizationWindowSeconds": autoscale.down_after_seconds,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        },
    }


def _horizontal(stack: Stack, pool: Pool, autoscale: Autoscale) -> Manifest:
    def metric(name: str, most: float) -> Manifest:
        target = {"type": "AverageValue", "averageValue": _quantity(most)}
        return {"type": "Pods", "pods": {"metric": {"name": name}, "target": target}}

    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(stack, pool),
        "spec": {
            "scaleTargetRef": _target(stack, pool),
            "minReplicas": autoscale.min - canaries(stack, pool),
            "maxReplicas": autoscale.max - canaries(stack, pool),
            # The one that wants more pods counts.
            "metrics": [metric(RUNNING, running(stack, autoscale)), metric(QUEUED, autoscale.queued)],
            "behavior": _behaviour(autoscale),
        },
    }


def _scaled_object(stack: Stack, pool: Pool, autoscale: Autoscale) -> Manifest:
    pods = (
        f'namespace="{stack.kubernetes.namespace}", pod=~"{labels.of(stack, pool.name)}-[a-z0-9]+-[a-z0-9]+"'
    )

    def trigger(name: str, query: str, threshold: float, activation: float) -> Manifest:
        return {
            "type": "prometheus",
            "name": name,
            "metadata": {
                "serverAddress": autoscale.prometheus,
                "query": query,
                "threshold": f"{threshold:g}",
                "activationThreshold": f"{activation:g}",
            },
        }

    triggers = [
        trigger("running", f"sum({RUNNING}{{{pods}}})", running(stack, autoscale), 0),
        trigger("queued", f"sum({QUEUED}{{{pods}}})", autoscale.queued, 0),
    ]
    if autoscale.min == 0:
        # A pool without pods has no metrics: requests at the gateway wake it, for one pod at the most.
        gateway = f'namespace="{stack.kubernetes.namespace}", pod=~"{labels.of(stack, labels.GATEWAY)}-.+"'
        awake = f"clamp_max(sum(increase(ai_gateway_requests_total{{{gateway}}}[2m])), 1)"
        triggers.append(trigger("awake", awake, 1, 0))
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata(stack, pool),
        "spec": {
            "scaleTargetRef": _target(stack, pool),
            "minReplicaCount": autoscale.min - canaries(stack, pool),
            "maxReplicaCount": autoscale.max - canaries(stack, pool),
            "pollingInterval": _POLL_SECONDS,
            "cooldownPeriod": autoscale.down_after_seconds,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behaviour(autoscale)}},
            "triggers": triggers,
        },
    }


def _target(stack: Stack, pool: Pool) -> Manifest:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": labels.of(stack, pool.name)}


def _quantity(value: float) -> str:
    """A number as a quantity, which has no more than three decimals."""
    return f"{value:g}" if value == int(value) else f"{round(value * 1000)}m"
