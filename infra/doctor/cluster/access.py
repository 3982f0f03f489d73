"""Whether the cluster can be asked: kubectl, the API server, the namespace, what this user may see."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from infra.doctor.cluster.api import Done
from infra.doctor.cluster.seen import ALL_PODS, GLOBAL, Seen
from infra.doctor.findings import Outcome, ok, problem, warning
from infra.kubernetes import labels
from infra.kubernetes.kubectl import shown
from infra.stack import Stack

#: The oldest versions, major and minor. kubectl 1.22 knows the plugins with which clouds log in.
OLDEST_KUBECTL, OLDEST_CLUSTER = (1, 22), (1, 30)
NO_KUBECTL = (
    "install kubectl, e.g. `apt-get install kubernetes-client` or `brew install kubectl`, and put it on PATH"
)
#: A pattern in kubectl's errors, and the remedy. `{start}` is kubectl with the cluster's options. The first
#: that matches counts.
_REMEDIES: Final = (
    (
        r'context "\S*" does not exist|no context exists with the name',
        "set kubernetes.context to one of: kubectl config get-contexts -o name",
    ),
    (
        r"server localhost:\d+ was refused",
        "kubectl has no kubeconfig: set KUBECONFIG or kubernetes.kubeconfig to the cluster's file",
    ),
    (r"error loading config file|invalid configuration", "correct the kubeconfig: kubectl config view"),
    (
        r"exec: executable (\S+) not found",
        "install the program that the kubeconfig logs in with, and put it on PATH: it is in the message",
    ),
    (
        r"must be logged in|Unauthorized|getting credentials",
        "log in to the cluster again: the kubeconfig's token or certificate is not valid any more",
    ),
    (
        r"x509|tls:|certificate",
        "the kubeconfig has another cluster's authority: fetch the kubeconfig anew "
        "(kubectl config view --minify has the cluster's address)",
    ),
    (
        r"no such host|server misbehaving",
        "correct the address, or connect to the network (VPN) that knows the name: "
        "kubectl config view --minify",
    ),
    (
        r"was refused|timed? ?out|no route to host|Timeout|deadline exceeded|unreachable",
        "start the API server, or open the way to it (VPN, firewall): {start} get --raw /readyz",
    ),
    (
        r"does not end within",
        "the API server does not answer, or the program that the kubeconfig logs in with hangs: "
        "{start} get --raw /readyz -v=6 shows which",
    ),
    (
        r"could not find the requested resource|404",
        "no API server of Kubernetes answers there: kubectl config view --minify has the address",
    ),
)


def kubectl_version(done: Done) -> Outcome:
    """Whether kubectl is new enough, from `kubectl version --output=json`."""
    try:
        told = json.loads(done.stdout)["clientVersion"]
        found = version(told)
    except (ValueError, KeyError, TypeError):
        # It tells it first, unless it cannot read its kubeconfig: the next check says so.
        return ok("its version is not known")
    name = str(told.get("gitVersion", _text(found)))
    if found < OLDEST_KUBECTL:
        return problem(
            f"kubectl {name}; {_text(OLDEST_KUBECTL)} is the oldest version that works",
            f"install kubectl {_text(OLDEST_KUBECTL)} or newer",
        )
    return ok(f"kubectl {name}")


def api_server(stack: Stack, done: Done) -> Outcome:
    """Whether the API server answers this user, and is new enough; from `kubectl version --output=json`."""
    if done.status:
        words = done.stderr or f"kubectl ended with status {done.status}"
        return problem(words.splitlines()[0], remedy_for(stack, words))
    try:
        told = json.loads(done.stdout)["serverVersion"]
        found = version(told)
    except (ValueError, KeyError, TypeError):
        return problem(
            f"it does not answer as an API server does: {done.stdout[:200]!r}",
            "correct the cluster's address: kubectl config view --minify",
        )
    if found < OLDEST_CLUSTER:
        return problem(
            f"Kubernetes {told.get('gitVersion', _text(found))}; {_text(OLDEST_CLUSTER)} is the oldest "
            "version that works",
            "update the cluster: older versions do not know all keys of the stack's pods",
        )
    return ok(f"Kubernetes {told.get('gitVersion', _text(found))}")


def remedy_for(stack: Stack, words: str) -> str:
    """What to do about an error of kubectl."""
    start = shown(stack, namespaced=False)
    found = next((each for pattern, each in _REMEDIES if re.search(pattern, words)), None)
    return (found or "see kubectl's message; to try it: {start} get --raw /version").format(start=start)


def version(told: Mapping[str, Any]) -> tuple[int, int]:
    """Major and minor; clouds write minors such as `29+`. Raises KeyError, ValueError."""
    return int(told["major"]), int(re.sub(r"\D.*", "", str(told["minor"])))


def _text(found: tuple[int, int]) -> str:
    return f"{found[0]}.{found[1]}"


def namespace(stack: Stack, found: Mapping[str, Any] | None, status: int, message: str) -> Outcome:
    """Whether the stack's namespace is there. `found` is the object; without it, the answer's status."""
    name = stack.kubernetes.namespace
    if found is None and status == 404:
        return problem(
            message,
            f"{shown(stack, namespaced=False)} create namespace {name}, then fleet deploy -s {stack.name}",
        )
    if found is None:
        # Who may work in one namespace only, may often not see the object of the namespace itself.
        return ok(f"not known: {message}")
    if found.get("status", {}).get("phase") == "Terminating":
        waits = [
            each.get("message", "")
            for each in found["status"].get("conditions", [])
            if each["status"] == "True" and each.get("message")
        ]
        return problem(
            f"the namespace {name} is being deleted" + (f": {'; '.join(waits)}" if waits else ""),
            f"wait until it is gone, then {shown(stack, namespaced=False)} create namespace {name} and "
            f"fleet deploy -s {stack.name}",
        )
    level = found["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce")
    return ok(f"{name} is there" + (f", Pod Security level {level}" if level else ""))


def permissions(stack: Stack, seen: Seen) -> Outcome:
    """What the API server did not list for this user: the checks that need it cannot tell."""
    if not seen.refused:
        return ok("everything that the checks ask for")
    words = "\n".join(dict.fromkeys(seen.refused.values()))
    return warning(words, "; ".join(_grants(stack, list(seen.refused))))


def _grants(stack: Stack, kinds: Sequence[str]) -> list[str]:
    """Commands that let the user see these kinds; somebody who may grant it runs them."""
    start, user = shown(stack), "USER"
    wide = sorted({"pods" if each == ALL_PODS else each for each in kinds if each in (*GLOBAL, ALL_PODS)})
    narrow = sorted(each for each in kinds if each not in (*GLOBAL, ALL_PODS))
    commands = []
    name = labels.of(stack, "doctor")
    if narrow:
        commands += [
            f"{start} create role {name} --verb=get,list --resource={','.join(map(_resource, narrow))}",
            f"{start} create rolebinding {name} --role={name} --user={user}",
        ]
    if wide:
        cluster, resources = shown(stack, namespaced=False), ",".join(map(_resource, wide))
        commands += [
            f"{cluster} create clusterrole {name} --verb=get,list --resource={resources}",
            f"{cluster} create clusterrolebinding {name} --clusterrole={name} --user={user}",
        ]
    return [*commands, "USER is the one in the message"]


def _resource(kind: str) -> str:
    groups = {
        "scaledobjects": "keda.sh",
        "podmonitors": "monitoring.coreos.com",
        "prometheusrules": "monitoring.coreos.com",
        "certificates": "cert-manager.io",
        "httproutes": "gateway.networking.k8s.io",
        "grpcroutes": "gateway.networking.k8s.io",
    }
    return f"{kind}.{groups[kind]}" if kind in groups else kind
