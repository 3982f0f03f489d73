"""Autoscalers, budgets for disruptions, and the extensions of the cluster that the stack uses."""

from infra.doctor.cluster.placement import redeploy
from infra.doctor.cluster.seen import Object, Seen
from infra.doctor.findings import Outcome, ok, problem, warning
from infra.kubernetes import labels
from infra.kubernetes.kubectl import shown
from infra.kubernetes.state import condition
from infra.stack import Stack
from infra.stack.pools import Pool

_CUSTOM_METRICS = "/apis/custom.metrics.k8s.io/v1beta1"


def autoscaler(stack: Stack, pool: Pool, seen: Seen) -> Outcome:
    """Whether a pool's autoscaler reads the load and can change the number of pods."""
    assert pool.autoscale is not None
    name = labels.of(stack, pool.name)
    if pool.autoscale.by == "keda":
        return _keda(stack, name, seen)
    if not seen.knows("horizontalpodautoscalers"):
        return ok("not known: this user may not list HorizontalPodAutoscalers")
    found = seen.named("horizontalpodautoscalers", name)
    if found is None:
        return problem(f"the HorizontalPodAutoscaler {name} is not in the cluster", redeploy(stack))
    return _horizontal(stack, name, found)


def _horizontal(stack: Stack, name: str, found: Object) -> Outcome:
    able, active = condition(found, "AbleToScale"), condition(found, "ScalingActive")
    if able.get("status") == "False":
        return problem(f"{able.get('reason')}: {able.get('message')}", f"{shown(stack)} describe hpa {name}")
    if active.get("status") == "False" and active.get("reason") != "ScalingDisabled":
        words = str(active.get("message"))
        return problem(
            f"{active.get('reason')}: {words}",
            "serve the metrics ai_inferences_running and ai_inferences_queued of pods by the custom metrics "
            f"API (an adapter for Prometheus; this lists them: {shown(stack, namespaced=False)} get --raw "
            f"{_CUSTOM_METRICS}), or set autoscale.by: keda",
        )
    if not active:
        return warning(
            "it has decided nothing yet", f"wait a minute, then {shown(stack)} describe hpa {name}"
        )
    status = found.get("status", {})
    return ok(f"{status.get('currentReplicas', 0)} pods now, {status.get('desiredReplicas', 0)} wanted")


def _keda(stack: Stack, name: str, seen: Seen) -> Outcome:
    if "scaledobjects" in seen.absent:
        return problem(
            "the cluster does not know ScaledObjects of keda.sh: KEDA is not installed",
            "install KEDA (helm chart keda), or set autoscale.by: hpa",
        )
    if not seen.knows("scaledobjects"):
        return ok("not known: this user may not list ScaledObjects")
    found = seen.named("scaledobjects", name)
    if found is None:
        return problem(f"the ScaledObject {name} is not in the cluster", redeploy(stack))
    state = condition(found, "Ready")
    describe = f"{shown(stack)} describe scaledobject {name}"
    if state.get("status") == "False":
        return problem(f"{state.get('reason')}: {state.get('message')}", describe)
    if not state:
        return warning("KEDA has said nothing of it: does its operator run?", describe)
    fallback = condition(found, "Fallback")
    if fallback.get("status") == "True":
        return problem(
            f"{fallback.get('message')}", f"is autoscale.prometheus right, and does it answer? {describe}"
        )
    return ok(str(state.get("message", "KEDA reads the load")))


def disruptions(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Whether machines can be emptied: the budget lets one pod go."""
    name = labels.of(stack, part)
    if not seen.knows("poddisruptionbudgets"):
        return ok("not known: this user may not list PodDisruptionBudgets")
    found = seen.named("poddisruptionbudgets", name)
    if found is None:
        return problem(f"the PodDisruptionBudget {name} is not in the cluster", redeploy(stack))
    status = found.get("status", {})
    failed = condition(found, "DisruptionAllowed")
    if failed.get("reason") == "SyncFailed":
        # Pods of a Deployment that was deleted are such for as long as they end.
        return warning(str(failed.get("message")), f"{shown(stack)} describe pdb {name}")
    expected, healthy = status.get("expectedPods", 0), status.get("currentHealthy", 0)
    desired, allowed = status.get("desiredHealthy", 0), status.get("disruptionsAllowed", 0)
    if not expected or allowed or desired < expected:
        return ok(f"{allowed} of {expected} pods may be evicted now")
    return warning(
        f"no pod may ever be evicted: {desired} of {expected} pods must be healthy, {healthy} are; "
        "emptying a machine (kubectl drain) waits for ever",
        f"lower rollout.minHealthy or raise replicas of {part}, then fleet deploy -s {stack.name}",
    )


def monitors(stack: Stack, seen: Seen) -> Outcome:
    """Whether the cluster knows the objects of Prometheus's operator, and has the stack's."""
    if "podmonitors" in seen.absent:
        return problem(
            "the cluster does not know PodMonitors of monitoring.coreos.com: Prometheus's operator is not "
            "installed",
            "install it (helm chart kube-prometheus-stack), or set kubernetes.monitoring.by: annotations",
        )
    own = [
        each
        for each in seen.of("podmonitors")
        if each["metadata"].get("labels", {}).get(labels.STACK) == stack.name
    ]
    if seen.knows("podmonitors") and not own:
        return problem("the stack's PodMonitors are not in the cluster", redeploy(stack))
    return ok("its PodMonitors are there" if own else "not known: this user may not list PodMonitors")


def policies(stack: Stack, seen: Seen) -> Outcome:
    """Whether the stack's NetworkPolicies are there. Who enforces them, nothing tells."""
    if not seen.knows("networkpolicies"):
        return ok("not known: this user may not list NetworkPolicies")
    own = [
        each
        for each in seen.of("networkpolicies")
        if each["metadata"].get("labels", {}).get(labels.STACK) == stack.name
    ]
    if not own:
        return problem("the stack's NetworkPolicies are not in the cluster", redeploy(stack))
    return ok(
        f"{len(own)} are there; whether the network enforces them, the cluster's API does not tell: Calico, "
        "Cilium and the clouds' networks do, plain flannel does not"
    )
