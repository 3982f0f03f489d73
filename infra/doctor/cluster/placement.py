"""Pods that do not come to be: refused by quotas and Pod Security, or waiting for a machine."""

import re
from collections import Counter
from collections.abc import Iterator

from infra.doctor.cluster.machines import selecting
from infra.doctor.cluster.seen import Object, Seen, deployments_of, pods_of
from infra.doctor.findings import Outcome, Status, ok, problem, warning, worst
from infra.kubernetes import labels
from infra.kubernetes.kubectl import selector, shown
from infra.kubernetes.state import STARTING, condition, containers
from infra.stack import Stack
from infra.stack.pools import Pool

_QUOTA = re.compile(
    r"exceeded quota: (?P<name>[^,]+), requested: (?P<rest>.*?), used: (?P<used>.*), limited: "
)
_UNITS = {"": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def deployment(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Whether a part's Deployments are there, their pods are ready, and their rollouts go on."""
    name, found = labels.of(stack, part), deployments_of(stack, seen, part)
    if not any(each["metadata"]["name"] == name for each in found):
        return problem(f"the Deployment {name} is not in the cluster", redeploy(stack))
    wanted = sum(each["spec"].get("replicas", 1) for each in found)
    ready = sum(each.get("status", {}).get("readyReplicas", 0) for each in found)
    words = f"{ready} of {wanted} pods are ready"
    outcomes = [outcome for each in found for outcome in _rollout(stack, part, each, words)]
    if ready < wanted and not any(each.status is Status.PROBLEM for each in outcomes):
        remedy = f"see the other findings of {part}; {shown(stack)} describe deployment/{name}"
        outcomes.insert(0, problem("; ".join([words, *_starting(stack, part, seen)]), remedy))
    return worst(outcomes, "it has no pods, as declared" if wanted == 0 else words)


def _starting(stack: Stack, part: str, seen: Seen) -> list[str]:
    """What the kubelets said last of pods that have a machine and of which no other finding tells."""
    pods = pods_of(stack, seen, part)
    if not pods:
        return ["it has no pod yet"]
    counted: Counter[str] = Counter()
    for pod in pods:
        status = pod.get("status", {})
        reasons = {each["state"].get("waiting", {}).get("reason") for each in containers(pod)}
        if status.get("phase") == "Pending" and pod["spec"].get("nodeName") and reasons <= {*STARTING, None}:
            events = seen.events("Pod", pod["metadata"]["name"])
            counted[events[-1]["message"] if events else "nothing is said of it"] += 1
    return [f"{count} start: {words}" for words, count in counted.items()]


def _rollout(stack: Stack, part: str, found: Object, words: str) -> Iterator[Outcome]:
    """What is wrong with the rollout of one Deployment, whose part has these pods."""
    name, annotations = found["metadata"]["name"], found["metadata"].get("annotations", {})
    progress = condition(found, "Progressing")
    if found["spec"].get("paused"):
        resume = f"{shown(stack)} rollout resume deployment/{name}"
        yield problem(f"{words}; the rollout of {name} is paused: changes do not reach its pods", resume)
    elif progress.get("reason") == "ProgressDeadlineExceeded":
        yield problem(
            f"{words}; {progress.get('message', 'its rollout does not go on')}",
            f"see the findings of its pods; then fleet deploy -s {stack.name}",
        )
    put_back = annotations.get(labels.ROLLED_BACK)
    if put_back is not None and put_back != annotations.get(labels.AGAIN):
        yield warning(
            f"{name} has the pods of before: an update failed and put them back at {put_back}",
            f"correct what that update said of {part}, then fleet deploy -s {stack.name}",
        )


def redeploy(stack: Stack) -> str:
    """The command that makes what somebody deleted or changed by hand as the stack file says."""
    return f"fleet deploy --refresh -s {stack.name}"


def refused(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Pods that the API server refused to make: quotas, Pod Security, other admission."""
    lines, remedies = [], []
    for each in deployments_of(stack, seen, part):
        state = condition(each, "ReplicaFailure")
        if state.get("status") == "True":
            words = str(state.get("message") or state.get("reason"))
            missing = each["spec"].get("replicas", 1) - each.get("status", {}).get("replicas", 0)
            lines.append(words)
            remedies.append(refusal_remedy(stack, part, words, max(missing, 1)))
    return problem("\n".join(lines), "\n".join(dict.fromkeys(remedies))) if lines else ok("none")


def refusal_remedy(stack: Stack, part: str, words: str, missing: int) -> str:
    """What to do about pods that were refused with these words; so many are missing."""
    start = shown(stack)
    if match := _QUOTA.search(words):
        hard = enough(match["rest"], match["used"], missing)
        limits = ", ".join(f'"{name}": "{value}"' for name, value in hard.items())
        patch = f'\'{{"spec": {{"hard": {{{limits}}}}}}}\''
        return (
            f"{start} patch resourcequota {match['name']} --type=merge --patch={patch}\n"
            f"or lower replicas or gpus of {part}"
        )
    if "violates PodSecurity" in words:
        level = "baseline" if "restricted" in words else "privileged"
        namespace = stack.kubernetes.namespace
        relabel = (
            f"{shown(stack, namespaced=False)} label namespace {namespace} "
            f"pod-security.kubernetes.io/enforce={level} --overwrite"
        )
        if stack.pools and any(each.name == part and each.runtime == "edge-llm" for each in stack.pools):
            return (
                "set edgeLlm.unitManager.user and edgeLlm.llmNode.user to users other than root, if the "
                f"images allow it; or\n{relabel}"
            )
        return relabel
    if match := re.search(r'serviceaccount "([^"]+)" not found', words):
        return f"{start} create serviceaccount {match[1]}"
    if match := re.search(r'RuntimeClass "([^"]+)" not found', words):
        return (
            f"install what brings the RuntimeClass {match[1]} (NVIDIA's GPU Operator), or take "
            "kubernetes.runtimeClass out of the stack file"
        )
    if "admission webhook" in words:
        return "a policy of the cluster refuses the pods: change what it names, or ask who keeps the policy"
    return f"{start} describe replicaset {selector(labels.of_stack(stack))}"


def enough(requested: str, used: str, missing: int) -> dict[str, str]:
    """The limits with which so many more pods fit, from what a quota says: `a=1,b=2Gi` of each."""
    asked, taken = (dict(each.split("=", 1) for each in text.split(",")) for text in (requested, used))
    return {
        name: _written(_number(taken.get(name, "0")) + missing * _number(value), value)
        for name, value in asked.items()
    }


def _number(quantity: str) -> float:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    return float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else 0.0


def _written(number: float, like: str) -> str:
    """A quantity, in mebibytes where the other one has a binary unit."""
    if like.endswith("i"):
        return f"{-(-int(number) // 2**20)}Mi"
    return str(int(number)) if number == int(number) else f"{round(number * 1000)}m"


def waiting(stack: Stack, part: str, seen: Seen) -> Outcome:
    """Pods that no machine takes, in the scheduler's own words."""
    counted: Counter[str] = Counter()
    for pod in pods_of(stack, seen, part):
        placed = condition(pod, "PodScheduled")
        if placed.get("status") == "False":
            counted[str(placed.get("message") or placed.get("reason"))] += 1
        elif not pod.get("spec", {}).get("nodeName"):
            counted["the scheduler has said nothing of it: does one run?"] += 1
    if not counted:
        return worst(_lost(stack, part, seen), "every pod has a machine")
    lines = [f"{count} × {words}" if count > 1 else words for words, count in counted.items()]
    pool = next((each for each in stack.pools if each.name == part), None)
    wrong = selecting(pool, seen) if pool is not None else None
    if wrong is not None:
        lines.append(wrong)
    remedies = dict.fromkeys(
        remedy for words in counted for remedy in placement_remedies(stack, pool, words, seen)
    )
    return problem("\n".join(lines), "\n".join(remedies))


def _lost(stack: Stack, part: str, seen: Seen) -> list[Outcome]:
    """Pods on machines that do not report any more: nothing says of them how they are."""
    away = {
        each["metadata"]["name"]
        for each in seen.of("nodes")
        if condition(each, "Ready").get("status") == "Unknown"
    }
    return [
        problem(
            f"{name} is on {machine}, which does not report any more",
            f"bring {machine} back; or, if it is gone for good: {shown(stack)} delete pod {name} --force",
        )
        for pod in pods_of(stack, seen, part)
        if (machine := pod["spec"].get("nodeName")) in away and (name := pod["metadata"]["name"])
    ]


def placement_remedies(stack: Stack, pool: Pool | None, words: str, seen: Seen) -> list[str]:
    """What to do where the scheduler says this."""
    start, part = shown(stack, namespaced=False), pool.name if pool is not None else "the gateway"
    found = []
    if match := re.search(r"Insufficient ([\w.-]+/[\w.-]*\w)", words):
        free = f"add machines with {match[1]}, lower replicas or gpus of {part}"
        found.append(f"{free}, or end pods that use them: see the cluster's finding gpus")
    if match := re.search(r"Insufficient (cpu|memory)\b", words):
        key = "nodes[].resources" if pool is not None else f"kubernetes.gateway.{match[1]}"
        found.append(f"lower {key} of {part}, or add machines with more {match[1]}")
    if "didn't match Pod's node affinity/selector" in words:
        chosen = ",".join(f"{key}={value}" for key, value in (pool.selector if pool else {}).items())
        found.append(
            f"correct nodes[].selector of {part}, or label machines: {start} label node MACHINE "
            f"{chosen.replace(',', ' ')}".rstrip()
        )
    for key in re.findall(r"untolerated taints?(?:\(s\))? \{([^:}]+)", words):
        if key.startswith("node.kubernetes.io/"):
            found.append(f"a machine has trouble ({key}): see the cluster's finding machines")
        else:
            found.append(
                f"set nodes[].tolerations of {part}: [{{key: {key}}}], then fleet deploy -s {stack.name}"
            )
    if "were unschedulable" in words:
        cordoned = [
            each["metadata"]["name"] for each in seen.of("nodes") if each.get("spec", {}).get("unschedulable")
        ]
        found += [f"{start} uncordon {name}" for name in cordoned]
    if "persistentvolumeclaim" in words.lower() or "persistent volume" in words or "volume node" in words:
        found.append(f"see the finding claims of {part}")
    if "no nodes available" in words:
        found.append("add a machine to the cluster")
    if "Too many pods" in words:
        found.append("add machines: those that fit have as many pods as their kubelets allow")
    return found or [f"{shown(stack)} describe pods {selector(labels.of_stack(stack))}"]
