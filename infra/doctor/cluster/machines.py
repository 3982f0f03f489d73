"""The machines of the cluster: whether they are ready, advertise GPUs, and have some that are free."""

from collections.abc import Mapping, Sequence
from typing import Any

from infra.doctor.cluster.seen import ALL_PODS, Object, Seen
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.kubernetes import labels
from infra.kubernetes.kubectl import shown
from infra.kubernetes.state import condition
from infra.stack import Stack
from infra.stack.pools import Pool

_NOT_READY = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}


def machines(stack: Stack, seen: Seen) -> Outcome:
    """Whether the cluster has machines, and which of them take no pods."""
    if not seen.knows("nodes"):
        return ok(f"not known: {seen.refused.get('nodes', 'not listed')}")
    found = seen.of("nodes")
    if not found:
        return problem("the cluster has no machine", "add one: a kubelet that joins the cluster")
    start = shown(stack, namespaced=False)
    outcomes = []
    for each in found:
        name = each["metadata"]["name"]
        if each.get("spec", {}).get("unschedulable"):
            outcomes.append(warning(f"{name} takes no new pods: it is cordoned", f"{start} uncordon {name}"))
        state = condition(each, "Ready")
        if state.get("status") != "True":
            words = state.get("message") or "it has reported nothing"
            outcomes.append(
                warning(f"{name} is not ready: {words}", f"{start} describe node {name}; look at its kubelet")
            )
    if len(outcomes) and not any(usable(each) for each in found):
        return problem(
            "no machine takes pods\n" + "\n".join(each.seen for each in outcomes),
            "\n".join(each.remedy for each in outcomes),
        )
    return worst(outcomes, f"{len(found)} {'machine is' if len(found) == 1 else 'machines are'} ready")


def usable(node: Object) -> bool:
    """Whether a machine is ready and takes new pods."""
    return condition(node, "Ready").get("status") == "True" and not node.get("spec", {}).get("unschedulable")


def amount(node: Object, resource: str, of: str = "allocatable") -> int:
    """How many of an extended resource a machine has."""
    return int(node.get("status", {}).get(of, {}).get(resource, 0))


def extended(nodes: Sequence[Object]) -> dict[str, int]:
    """The extended resources that machines advertise, and how many of each there are in all."""
    found: dict[str, int] = {}
    for node in nodes:
        for resource in node.get("status", {}).get("allocatable", {}):
            domain = resource.partition("/")[0]
            if "/" in resource and not domain.endswith("kubernetes.io"):
                found[resource] = found.get(resource, 0) + amount(node, resource)
    return {resource: count for resource, count in sorted(found.items()) if count}


def gpu_resource(stack: Stack, seen: Seen) -> Outcome:
    """Whether machines advertise the resource that the pools ask for."""
    resource = stack.kubernetes.gpu_resource
    if not seen.knows("nodes"):
        return ok(f"not known: {seen.refused.get('nodes', 'not listed')}")
    nodes = seen.of("nodes")
    has = [node for node in nodes if amount(node, resource)]
    if has:
        each = ", ".join(f"{node['metadata']['name']} {amount(node, resource)}" for node in has)
        return ok(f"{sum(amount(node, resource) for node in has)} × {resource}: {each}")
    lost = [node["metadata"]["name"] for node in nodes if amount(node, resource, "capacity")]
    start = shown(stack, namespaced=False)
    if lost:
        return problem(
            f"{', '.join(lost)}: its {resource} are there, and none can be used",
            "the device plugin stopped there or calls the GPUs unhealthy; its pods have the reason: "
            f"{start} get pods --all-namespaces | grep -i device-plugin",
        )
    others = extended(nodes)
    words = f"no machine advertises {resource}"
    if not others:
        return problem(
            f"{words}; the machines have no extended resource at all",
            "install the device plugin of the GPUs' vendor (NVIDIA: the GPU Operator, or k8s-device-plugin); "
            f"when it runs, this shows them: {start} describe nodes | grep {resource}",
        )
    listed = ", ".join(f"{name} ({count})" for name, count in others.items())
    named = next((each for each in others if "gpu" in each or "mig" in each), next(iter(others)))
    return problem(
        f"{words}; the machines have {listed}",
        f"set kubernetes.gpuResource: {named} in the stack file, then fleet deploy -s {stack.name}",
    )


def gpus(stack: Stack, seen: Seen) -> Outcome:
    """Whether the pools' GPUs fit on the machines, beside those that other pods use."""
    resource = stack.kubernetes.gpu_resource
    if not any(amount(node, resource) for node in seen.of("nodes")):
        return ok(f"not counted: no machine is known to advertise {resource}")
    nodes = [node for node in seen.of("nodes") if usable(node)]
    total = sum(amount(node, resource) for node in nodes)
    own, others = used(stack, seen)
    wanted = sum(each.gpus * each.least for each in stack.pools)
    free = total - own - others
    unknown = "" if seen.knows(ALL_PODS) else " (pods of other namespaces are not known)"
    words = (
        f"the stack's pods ask for {wanted} × {resource} and have {own}; the machines have {total}, "
        f"other pods use {others}{unknown}, {free} are free"
    )
    largest = max((amount(node, resource) for node in nodes), default=0)
    outcomes = [
        problem(
            f"{pool.name}: each pod asks for {pool.gpus} × {resource}, and the largest machine has {largest}",
            f"set gpus of {pool.name} to at most {largest}, or add a machine with {pool.gpus}",
        )
        for pool in stack.pools
        if pool.gpus > largest
    ]
    if wanted - own > free:
        return worst([problem(words, _more(stack, seen, wanted - own - free)), *outcomes], words)
    surging = [
        each.name for each in stack.pools if each.gpus > free and each.update == "surge" and each.least
    ]
    if surging:
        outcomes.append(
            warning(
                f"{words}; an update of {', '.join(surging)} starts a new pod before an old one ends, "
                "and finds no GPU for it",
                f"set update: replace for {', '.join(surging)}, or free GPUs before the next update",
            )
        )
    return worst(outcomes, words)


def _more(stack: Stack, seen: Seen, missing: int) -> str:
    """What to do where GPUs are missing."""
    resource = stack.kubernetes.gpu_resource
    remedy = f"add machines with {missing} more × {resource}, or lower replicas of the pools"
    others = [
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for pod in seen.of(ALL_PODS)
        if asked(pod, resource) and not _own(stack, pod) and pod.get("spec", {}).get("nodeName")
    ]
    return f"{remedy}; others that use some: {', '.join(others[:5])}" if others else remedy


def used(stack: Stack, seen: Seen) -> tuple[int, int]:
    """How many GPUs the stack's placed pods have, and those of others."""
    resource = stack.kubernetes.gpu_resource
    own = others = 0
    for pod in seen.of(ALL_PODS) if seen.knows(ALL_PODS) else seen.of("pods"):
        if pod.get("spec", {}).get("nodeName"):
            if _own(stack, pod):
                own += asked(pod, resource)
            else:
                others += asked(pod, resource)
    return own, others


def _own(stack: Stack, pod: Object) -> bool:
    metadata = pod["metadata"]
    return (
        metadata.get("namespace") == stack.kubernetes.namespace
        and metadata.get("labels", {}).get(labels.STACK) == stack.name
    )


def asked(pod: Object, resource: str) -> int:
    """How many of a resource a pod asks for: sidecars beside the containers, other init containers alone."""

    def of(container: Mapping[str, Any]) -> int:
        return int((container.get("resources") or {}).get("requests", {}).get(resource, 0))

    spec = pod.get("spec", {})
    inits = spec.get("initContainers") or []
    together = sum(of(each) for each in spec.get("containers", []))
    together += sum(of(each) for each in inits if each.get("restartPolicy") == "Always")
    return max([together, *(of(each) for each in inits if each.get("restartPolicy") != "Always")])


def selecting(pool: Pool, seen: Seen) -> str | None:
    """What is wrong with a pool's selector: the label that no machine has, and the values that they have."""
    for key, value in pool.selector.items():
        values = {node["metadata"].get("labels", {}).get(key) for node in seen.of("nodes")}
        if value not in values:
            there = sorted(each for each in values if each)
            return (
                f"no machine has the label {key}={value}; "
                f"{'they have ' + ', '.join(there) if there else f'none has the label {key}'}"
            )
    return None
