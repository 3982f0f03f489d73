"""The doctor's checks of a cluster, on what a real API server said (answers.json) and on its words."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.certificates import make_authority, node_identity
from infra.doctor.cli import main
from infra.doctor.cluster import (
    access,
    containers,
    entrance,
    machines,
    models,
    needs,
    objects,
    placement,
    plan,
    scaling,
)
from infra.doctor.cluster.api import Done
from infra.doctor.cluster.seen import Seen, kinds
from infra.doctor.findings import Outcome, Status
from infra.doctor.web import Answer
from infra.kubernetes import labels
from infra.kubernetes.objects import objects as declared
from infra.stack import Stack
from tests.infra.conftest import double as double
from tests.kubernetes.stacks import BASE, EDGE, KEYS, STACKS, pool, stack

pytestmark = pytest.mark.fast

ANSWERS = json.loads((Path(__file__).parent / "answers.json").read_text())
NOW = datetime(2026, 11, 28, 2, tzinfo=UTC)
Check = Callable[[Stack, Seen], Outcome]


def seen(name: str) -> Seen:
    told = ANSWERS[name]
    return Seen(told["objects"], told["refused"], frozenset(told["absent"]))


def of(check: Callable[[Stack, str, Seen], Outcome], part: str = "l4") -> Check:
    return lambda stack, told: check(stack, part, told)


HPA, KEDA = STACKS["hpa"], STACKS["keda"]
SAID: list[tuple[str, dict[str, Any], Check, str, str, str]] = [
    (
        "quota",
        {},
        of(placement.refused),
        "problem",
        "exceeded quota: few, requested: requests.nvidia.com/gpu=1",
        'resourcequota few --type=merge --patch=\'{"spec": {"hard": {"requests.nvidia.com/gpu": "2"}}}\'',
    ),
    (
        "pod security",
        {},
        of(placement.refused),
        "problem",
        'violates PodSecurity "restricted:latest": runAsNonRoot != true',
        "label namespace default pod-security.kubernetes.io/enforce=baseline --overwrite",
    ),
    (
        "service account",
        {},
        of(needs.objects),
        "problem",
        "ServiceAccount reader not found",
        "create serviceaccount reader",
    ),
    (
        "service account",
        {},
        of(placement.refused),
        "problem",
        "error looking up service account",
        "create serviceaccount reader",
    ),
    (
        "gpu resource",
        {"kubernetes": {"gpuResource": "nvidia.com/mig-1g.10gb"}},
        machines.gpu_resource,
        "problem",
        "the machines have nvidia.com/gpu (8)",
        "kubernetes.gpuResource: nvidia.com/gpu ",
    ),
    (
        "gpu resource",
        {},
        of(placement.waiting),
        "problem",
        "2 × 0/1 nodes are available: 1 Insufficient nvidia.com/mig-1g.10gb.",
        "add machines with nvidia.com/mig-1g.10gb, lower replicas or gpus of l4",
    ),
    (
        "gpus in use",
        pool(replicas=9),
        machines.gpus,
        "problem",
        "ask for 9 × nvidia.com/gpu and have",
        "more × nvidia.com/gpu, or lower replicas",
    ),
    ("cordoned", {}, machines.machines, "problem", "it is cordoned", "kubectl uncordon speech"),
    (
        "selector",
        pool(selector={"nvidia.com/gpu.product": "NVIDIA-L4"}),
        of(placement.waiting),
        "problem",
        "no machine has the label nvidia.com/gpu.product=NVIDIA-L4; none has the label",
        "label node MACHINE nvidia.com/gpu.product=NVIDIA-L4",
    ),
    (
        "claim missing",
        {},
        of(needs.claims),
        "problem",
        'persistentvolumeclaim "models" not found',
        '"accessModes": ["ReadWriteMany"]',
    ),
    (
        "claim pending",
        {},
        of(needs.claims),
        "problem",
        "the claim models is Pending: no persistent volumes available for this claim and no storage",
        "kubectl get storageclass",
    ),
    (
        "claim of one machine",
        {},
        of(needs.claims),
        "warning",
        "the claim models allows ReadWriteOnce",
        "make another claim with ReadOnlyMany",
    ),
    (
        "other selector",
        {},
        of(entrance.endpoints),
        "problem",
        "ready, and not behind the Service prod-l4: prod-l4-",
        "fleet deploy --refresh -s prod",
    ),
    (
        "load balancer",
        {},
        lambda stack, told: entrance.address(stack, told, NOW),
        "problem",
        "the Service prod-gateway of type LoadBalancer has no address after",
        "kubernetes.service.type: NodePort",
    ),
    (
        "autoscaler",
        HPA,
        lambda stack, told: scaling.autoscaler(stack, stack.pools[0], told),
        "problem",
        "FailedGetPodsMetric: the HPA was unable to compute the replica count",
        "autoscale.by: keda",
    ),
    (
        "extensions",
        KEDA,
        lambda stack, told: scaling.autoscaler(stack, stack.pools[0], told),
        "problem",
        "KEDA is not installed",
        "autoscale.by: hpa",
    ),
    (
        "extensions",
        {},
        scaling.monitors,
        "problem",
        "operator is not installed",
        "monitoring.by: annotations",
    ),
    (
        "image",
        {},
        of(containers.images),
        "problem",
        "triton (2 pods): ImagePullBackOff: Back-off pulling image",
        "push registry.example.com/gpu/triton:1, or correct triton.image",
    ),
    (
        "out of memory",
        {},
        lambda stack, told: containers.ends(stack, "l4", told, {}, NOW),
        "problem",
        "CrashLoopBackOff, restarted 4 times, last after exit code 137, OOMKilled",
        "raise triton.memory",
    ),
    (
        "probe",
        {},
        of(containers.probes),
        "problem",
        "triton: Startup probe failed: HTTP probe failed with statuscode: 400 (12 times",
        "raise rollout.readyTimeoutSeconds",
    ),
    (
        "not allowed",
        {},
        access.permissions,
        "warning",
        'cannot list resource "deployments" in API group "apps"',
        "create role prod-doctor --verb=get,list --resource=configmaps,deployments,",
    ),
]


@pytest.mark.parametrize(
    ("answer", "config", "check", "status", "words", "remedy"),
    SAID,
    ids=[f"{n}-{row[0]}" for n, row in enumerate(SAID)],
)
def test_what_the_api_server_said_is_found_with_its_remedy(
    answer: str, config: dict[str, Any], check: Check, status: str, words: str, remedy: str
) -> None:
    found = check(stack(config), seen(answer))
    assert found.status == status
    assert words in found.seen
    assert remedy in found.remedy


def test_a_stack_that_is_well_passes_every_check() -> None:
    given, told = stack({}), seen("well")
    found = [
        machines.machines(given, told),
        machines.gpu_resource(given, told),
        machines.gpus(given, told),
        scaling.policies(given, told),
        needs.claims(given, "l4", told),
        access.permissions(given, told),
    ]
    for part in ("l4", "gateway"):
        found += [
            placement.deployment(given, part, told),
            placement.refused(given, part, told),
            placement.waiting(given, part, told),
            needs.objects(given, part, told),
            containers.images(given, part, told),
            containers.ends(given, part, told, {}, NOW),
            containers.probes(given, part, told),
            entrance.endpoints(given, part, told),
            scaling.disruptions(given, part, told),
            models.models(given, part, told, {}),
        ]
    assert [each.seen for each in found if each.status is not Status.OK] == []


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ('error: context "nope" does not exist', "kubectl config get-contexts"),
        ("The connection to the server localhost:8080 was refused - did you specify", "KUBECONFIG"),
        ("The connection to the server 192.0.2.1:6443 was refused - did you specify", "start the API server"),
        ("Unable to connect to the server: dial tcp: lookup a.example.com: no such host", "VPN"),
        ("error: You must be logged in to the server (Unauthorized)", "log in to the cluster again"),
        (
            "Unable to connect to the server: tls: failed to verify certificate: x509: certificate signed by "
            "unknown authority",
            "fetch the kubeconfig anew",
        ),
        (
            "Unable to connect to the server: getting credentials: exec: executable aws not found",
            "install the program that the kubeconfig logs in with",
        ),
        ("kubectl version does not end within 7 s", "get --raw /readyz -v=6 shows which"),
        ('error: error loading config file "a": yaml: line 1: did not find', "correct the kubeconfig"),
        ("Unable to connect to the server: net/http: request canceled (Client.Timeout)", "open the way"),
        ("Error from server (NotFound): the server could not find the requested resource", "no API server"),
        ("something new", "get --raw /version"),
    ],
)  # fmt: skip
def test_an_error_of_kubectl_has_its_remedy(words: str, remedy: str) -> None:
    found = access.api_server(stack({"kubernetes": {"context": "gpu"}}), Done(1, "", words))
    assert (found.status, found.seen) == ("problem", words)
    assert remedy in found.remedy


def version(kind: str, minor: str) -> str:
    told = {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0"}
    return json.dumps({kind: told})


def test_old_versions_of_kubectl_and_of_the_cluster_are_problems() -> None:
    assert access.kubectl_version(Done(0, version("clientVersion", "32+"), "")).status == "ok"
    assert "kubectl v1.19.0; 1.22" in access.kubectl_version(Done(0, version("clientVersion", "19"), "")).seen
    assert access.kubectl_version(Done(1, "", "error loading config file")).status == "ok"
    given = stack({})
    assert access.api_server(given, Done(0, version("serverVersion", "36"), "")).status == "ok"
    assert "1.30 is the oldest" in access.api_server(given, Done(0, version("serverVersion", "29+"), "")).seen
    assert "as an API server does" in access.api_server(given, Done(0, "<html>", "")).seen


def test_a_namespace_that_ends_or_cannot_be_seen_is_told() -> None:
    given = stack({"kubernetes": {"namespace": "speech"}})
    ending = {
        "metadata": {},
        "status": {
            "phase": "Terminating",
            "conditions": [
                {"type": "Remaining", "status": "True", "message": "pods. has 2 resource instances"}
            ],
        },
    }
    found = access.namespace(given, ending, 200, "")
    assert found.seen == "the namespace speech is being deleted: pods. has 2 resource instances"
    assert access.namespace(given, None, 403, "namespaces is forbidden").status == "ok"


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ('pods "a" is forbidden: violates PodSecurity "baseline:latest": privileged', "enforce=privileged"),
        ('pod rejected: RuntimeClass "nvidia" not found', "take kubernetes.runtimeClass out"),
        ('admission webhook "policy.example.com" denied the request: no', "a policy of the cluster"),
        ("something new", "describe replicaset"),
    ],
)
def test_a_refusal_has_its_remedy(words: str, remedy: str) -> None:
    assert remedy in placement.refusal_remedy(stack({}), "l4", words, 1)


def test_pod_security_and_edge_llm_have_the_key_first() -> None:
    edge = stack({**pool(runtime="edge-llm"), **EDGE})
    remedy = placement.refusal_remedy(edge, "l4", 'violates PodSecurity "restricted:latest"', 1)
    assert remedy.startswith("set edgeLlm.unitManager.user")
    assert remedy.splitlines()[-1].startswith("kubectl label namespace default")


def test_the_quota_of_the_remedy_has_room_for_every_missing_pod() -> None:
    asked, used = "limits.memory=2560Mi,requests.cpu=3,pods=1", "limits.memory=1Gi,requests.cpu=500m,pods=4"
    assert placement.enough(asked, used, 2) == {
        "limits.memory": "6144Mi",
        "requests.cpu": "6500m",
        "pods": "6",
    }


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("1 node(s) had untolerated taint {nvidia.com/gpu: present}", "[{key: nvidia.com/gpu}]"),
        ("1 node(s) had untolerated taint(s) {team: speech}", "[{key: team}]"),
        ("1 node(s) had untolerated taint {node.kubernetes.io/disk-pressure: }", "finding machines"),
        ("1 Insufficient memory", "lower nodes[].resources of l4, or add machines with more memory"),
        ('persistentvolumeclaim "models" not found', "the finding claims of l4"),
        ("no nodes available to schedule pods", "add a machine"),
        ("1 Too many pods", "as many pods as their kubelets allow"),
        ("something new", "describe pods"),
    ],
)
def test_the_schedulers_words_have_their_remedy(words: str, remedy: str) -> None:
    given = stack({})
    assert any(remedy in each for each in placement.placement_remedies(given, given.pools[0], words, Seen()))


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("ErrImagePull: failed to authorize: failed to fetch oauth token: 401 Unauthorized", "images.logins"),
        ("ErrImagePull: pull access denied, repository may require authorization", "images.logins"),
        ('InvalidImageName: couldn\'t parse image name "a::": invalid reference', "correct triton.image"),
        ("ErrImagePull: dial tcp 192.0.2.5:443: i/o timeout", "let the machines reach the registry"),
        ("ErrImagePull: tls: failed to verify certificate: x509: unknown authority", "registry's authority"),
        ("ErrImagePull: no match for platform in manifest", "for another processor"),
        ("something new", "describe pods"),
    ],
)  # fmt: skip
def test_an_image_that_cannot_be_pulled_has_its_remedy(words: str, remedy: str) -> None:
    assert remedy in containers.image_remedy(stack({}), "triton", "triton:1", words, no_secret=False)
    assert "--refresh" in containers.image_remedy(stack({}), "triton", "triton:1", "unknown", no_secret=True)


def with_state(**state: Any) -> Seen:
    """The pods of a stack that is well, but the service's container of each has this state."""
    told = json.loads(json.dumps(ANSWERS["well"]["objects"]))
    for each in told["pods"]:
        for container in each["status"]["containerStatuses"]:
            container |= {"ready": False, **state}
    return Seen(told)


def test_the_last_lines_of_a_container_that_ended_are_shown() -> None:
    last = {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-28T01:59:00Z"}
    told = with_state(
        state={"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        lastState={"terminated": last},
        restartCount=3,
    )
    given = stack({})
    [container] = containers.to_read(given, "l4", told)
    log = "server.workers: Input should be greater than or equal to 1"
    found = containers.ends(given, "l4", told, {(container.pod, container.name): log}, NOW)
    assert (
        f"service: CrashLoopBackOff, restarted 3 times, last after exit code 1; its log ends: {log}"
        in found.seen
    )
    assert found.remedy == "fleet logs l4 -s prod --part service"


def test_a_container_that_restarted_and_runs_again_is_a_warning_for_a_day() -> None:
    last = {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-27T12:00:00Z"}
    told = with_state(
        ready=True, state={"running": {}}, started=True, lastState={"terminated": last}, restartCount=2
    )
    found = containers.ends(stack({}), "l4", told, {}, NOW)
    assert found.status == "warning"
    assert "restarted 2 times, last after exit code 137, OOMKilled" in found.seen
    assert "raise service.memory" in found.remedy
    assert containers.ends(stack({}), "l4", told, {}, NOW + timedelta(days=1)).status == "ok"


@pytest.mark.parametrize(
    ("waiting", "remedy"),
    [
        ({"reason": "CreateContainerConfigError", "message": 'secret "a" not found'}, "deploy --refresh"),
        (
            {"reason": "CreateContainerConfigError", "message": "couldn't find key KEY in Secret default/a"},
            "the Secret default/a lacks KEY",
        ),
        (
            {
                "reason": "CreateContainerConfigError",
                "message": "container has runAsNonRoot and image will run as root",
            },
            "triton.user",
        ),
    ],
)
def test_a_container_that_cannot_be_made_has_its_remedy(waiting: dict[str, str], remedy: str) -> None:
    found = containers.ends(stack({}), "l4", with_state(state={"waiting": waiting}), {}, NOW)
    assert remedy in found.remedy


def node(name: str, state: str = "True", **amounts: str) -> dict[str, Any]:
    given = {key.replace("gpu", "nvidia.com/gpu"): value for key, value in amounts.items()}
    return {
        "metadata": {"name": name, "labels": {}},
        "status": {
            "capacity": {"nvidia.com/gpu": "4"},
            "allocatable": given,
            "conditions": [
                {"type": "Ready", "status": state, "message": "kubelet stopped posting node status."}
            ],
        },
    }


def test_machines_without_a_device_plugin_are_told_from_those_whose_plugin_stopped() -> None:
    given = stack({})
    stopped = machines.gpu_resource(given, Seen({"nodes": [node("a", gpu="0")]}))
    assert stopped.seen == "a: its nvidia.com/gpu are there, and none can be used"
    bare = {**node("a"), "status": {"allocatable": {"cpu": "8", "hugepages-1Gi": "0"}}}
    missing = machines.gpu_resource(given, Seen({"nodes": [bare]}))
    assert (
        missing.seen == "no machine advertises nvidia.com/gpu; the machines have no extended resource at all"
    )
    assert "install the device plugin" in missing.remedy


def test_gpus_of_one_pod_that_fit_no_machine_and_updates_without_a_free_gpu_are_told() -> None:
    both = Seen({"nodes": [node("a", gpu="2"), node("b", gpu="2")], "pods of all namespaces": []})
    found = machines.gpus(stack(pool(gpus=4, replicas=1)), both)
    assert "each pod asks for 4 × nvidia.com/gpu, and the largest machine has 2" in found.seen
    placed = {
        "metadata": {"name": "x", "namespace": "other"},
        "spec": {
            "nodeName": "a",
            "containers": [{"resources": {"requests": {"nvidia.com/gpu": "2"}}}],
            "initContainers": [
                {"resources": {"requests": {"nvidia.com/gpu": "1"}}, "restartPolicy": "Always"}
            ],
        },
    }
    full = Seen({**both.objects, "pods of all namespaces": [placed]})
    assert machines.asked(placed, "nvidia.com/gpu") == 3
    found = machines.gpus(stack(pool(replicas=2)), full)
    assert (found.status, "1 are free" in found.seen) == ("problem", True)
    assert "others that use some: other/x" in found.remedy


def test_a_cluster_without_machines_is_told() -> None:
    assert machines.machines(stack({}), Seen({"nodes": []})).seen == "the cluster has no machine"
    unseen = machines.machines(stack({}), Seen(refused={"nodes": "nodes is forbidden"}))
    assert (unseen.status, unseen.seen) == ("ok", "not known: nodes is forbidden")


def test_a_deployment_says_what_is_wrong_with_it() -> None:
    given, told = stack({}), json.loads(json.dumps(ANSWERS["well"]["objects"]))
    assert "is not in the cluster" in placement.deployment(given, "l4", Seen()).seen
    [l4] = [each for each in told["deployments"] if each["metadata"]["name"] == "prod-l4"]
    l4["status"]["readyReplicas"] = 0
    assert placement.deployment(given, "l4", Seen(told)).seen == "1 of 2 pods are ready"
    [pod, _] = [each for each in told["pods"] if "-l4-" in each["metadata"]["name"]]
    creating = {"triton": {"waiting": {"reason": "ContainerCreating"}}}
    for each in pod["status"]["initContainerStatuses"]:
        each |= {"ready": False, "state": creating[each["name"]]}
    pod["status"] |= {"phase": "Pending", "conditions": [], "containerStatuses": []}
    about = {"kind": "Pod", "name": pod["metadata"]["name"]}
    pulling = 'Pulling image "registry.example.com/gpu/triton:1"'
    told["events"] = [{"metadata": {}, "involvedObject": about, "reason": "Pulling", "message": pulling}]
    found = placement.deployment(given, "l4", Seen(told))
    assert found.seen == f"1 of 2 pods are ready; 1 start: {pulling}"
    none = placement.deployment(given, "l4", Seen({**told, "pods": []}))
    assert none.seen == "1 of 2 pods are ready; it has no pod yet"
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    l4["status"]["conditions"] = [{**late, "message": 'ReplicaSet "a" has timed out progressing.'}]
    assert "has timed out progressing" in placement.deployment(given, "l4", Seen(told)).seen
    l4["spec"]["paused"] = True
    found = placement.deployment(given, "l4", Seen(told))
    assert found.remedy == "kubectl --namespace=default rollout resume deployment/prod-l4"


def test_pods_that_an_update_put_back_or_took_from_traffic_are_told() -> None:
    given = stack({})
    told = in_cluster(given)
    when = "2026-11-28T01:00:00Z"
    canary = told["deployments"][0]
    canary["metadata"]["annotations"][labels.ROLLED_BACK] = when
    hand = {"manager": "kubectl", "fieldsV1": {"f:spec": {"f:template": {}}}}
    canary["metadata"]["managedFields"].append(hand)
    for each in told["deployments"]:
        each["status"] = {"readyReplicas": each["spec"]["replicas"]}
    found = placement.deployment(given, "l4", Seen(told))
    assert found.seen == (
        f"prod-l4-canary has the pods of before: an update failed and put them back at {when}"
    )
    assert objects.objects(given, declared(given), Seen(told)).status == "ok", "nobody did it by hand"
    canary["metadata"]["annotations"][labels.AGAIN] = when
    assert placement.deployment(given, "l4", Seen(told)).seen == "2 of 2 pods are ready"

    told = json.loads(json.dumps(ANSWERS["well"]["objects"]))
    pods = [each for each in told["pods"] if "-l4-" in each["metadata"]["name"]]
    pods[0]["metadata"]["labels"][labels.TRAFFIC] = labels.OFF
    found = entrance.endpoints(given, "l4", Seen(told))
    assert (found.status, pods[0]["metadata"]["name"] in found.seen) == ("warning", True)


def test_pods_on_a_machine_that_does_not_report_are_told() -> None:
    told = json.loads(json.dumps(ANSWERS["well"]["objects"]))
    for each in told["nodes"]:
        for state in each["status"]["conditions"]:
            state |= {"status": "Unknown", "message": "Kubelet stopped posting node status."}
    found = placement.waiting(stack({}), "l4", Seen(told))
    assert found.seen.count("which does not report any more") == 2
    assert "delete pod prod-l4-" in found.remedy


def test_a_service_without_pods_follows_from_its_deployment() -> None:
    told = json.loads(json.dumps(ANSWERS["well"]["objects"])) | {"pods": [], "endpointslices": []}
    assert entrance.endpoints(stack({}), "l4", Seen(told)).seen == "because of: deployment"
    for each in told["deployments"]:
        each["spec"]["replicas"] = 0
    assert entrance.endpoints(stack({}), "l4", Seen(told)).status == "ok"


def test_a_runtime_class_that_is_missing_is_told_with_those_that_exist() -> None:
    told = in_cluster(stack(STACKS["MIG"]))
    told["runtimeclasses"] = [{"metadata": {"name": "kata"}}]
    found = needs.objects(stack(STACKS["MIG"]), "l4", Seen(told))
    assert found.seen == "RuntimeClass nvidia not found, which the pods name"
    assert "one that is there (kata)" in found.remedy


def test_a_machine_that_is_not_ready_is_told_in_the_words_of_the_cluster() -> None:
    found = machines.machines(stack({}), Seen({"nodes": [node("a"), node("b", "Unknown")]}))
    assert found.status == "warning"
    assert found.seen == "b is not ready: kubelet stopped posting node status."


@pytest.mark.parametrize(
    ("days", "status", "words"),
    [(90, "ok", "valid until"), (5, "warning", "expires on"), (-2, "problem", "expired on")],
)
def test_the_certificate_of_the_secret_is_read(days: int, status: str, words: str) -> None:
    given = stack(
        {
            **STACKS["proxy protocol and a service of another image"],
            "gateway": {"publicHost": "a.example.com"},
        }
    )
    made = node_identity(make_authority(), "prod", "x", "a.example.com", 90, NOW)
    secret = {"data": {"tls.crt": base64.b64encode(made.certificate.encode()).decode()}}
    ends = _ends(made.certificate)
    found = entrance.certificate(given, secret, ends - timedelta(days=days))
    assert (found.status, words in found.seen) == (status, True)


def _ends(certificate: str) -> datetime:
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def test_a_secret_without_a_certificate_is_told() -> None:
    given = stack({"kubernetes": {"tls": {"secret": "ai-tls"}}})
    assert 'secrets "ai-tls" not found' in entrance.certificate(given, None, NOW).seen
    assert "has no tls.crt" in entrance.certificate(given, {"data": {}}, NOW).seen
    wrong = {"data": {"tls.crt": base64.b64encode(b"no").decode()}}
    assert "is not a certificate" in entrance.certificate(given, wrong, NOW).seen


def test_a_budget_that_lets_no_pod_go_is_a_warning() -> None:
    told = json.loads(json.dumps(ANSWERS["well"]["objects"]))
    for each in told["poddisruptionbudgets"]:
        each["status"] |= {
            "disruptionsAllowed": 0,
            "desiredHealthy": 2,
            "expectedPods": 2,
            "currentHealthy": 2,
        }
    found = scaling.disruptions(stack({}), "l4", Seen(told))
    assert found.seen.startswith("no pod may ever be evicted: 2 of 2 pods must be healthy, 2 are")
    assert "lower rollout.minHealthy or raise replicas of l4" in found.remedy


@pytest.mark.parametrize(
    ("conditions", "status", "words"),
    [
        ([{"type": "Ready", "status": "True", "message": "ScaledObject is right"}], "ok", "is right"),
        ([{"type": "Ready", "status": "False", "reason": "CheckFailed", "message": "no such host"}],
         "problem", "CheckFailed: no such host"),
        ([], "warning", "KEDA has said nothing of it"),
    ],
)  # fmt: skip
def test_what_keda_says_is_told(conditions: list[dict[str, str]], status: str, words: str) -> None:
    scaled = {"metadata": {"name": "prod-l4"}, "status": {"conditions": conditions}}
    given = stack(KEDA)
    found = scaling.autoscaler(given, given.pools[0], Seen({"scaledobjects": [scaled]}))
    assert (found.status, words in found.seen) == (status, True)


def test_what_cert_manager_says_is_told() -> None:
    given = stack(STACKS["certificate"])
    absent = needs.issued(given, Seen(absent=frozenset({"certificates"})))
    assert absent is not None and "install cert-manager" in absent.remedy
    waiting = {"type": "Ready", "status": "False", "message": "Issuing certificate as Secret does not exist"}
    told = Seen(
        {"certificates": [{"metadata": {"name": "prod-gateway"}, "status": {"conditions": [waiting]}}]}
    )
    found = needs.issued(given, told)
    assert found is not None and found.seen.endswith("Issuing certificate as Secret does not exist")


def in_cluster(given: Stack) -> dict[str, list[dict[str, Any]]]:
    """A stack's objects as a cluster has them that Pulumi made them in."""
    found: dict[str, list[dict[str, Any]]] = {}
    for each in json.loads(json.dumps(declared(given))):
        each["metadata"]["managedFields"] = [{"manager": "pulumi-kubernetes", "fieldsV1": {"f:spec": {}}}]
        found.setdefault(objects.LISTS[each["kind"]], []).append(each)
    return found


def test_objects_that_are_as_declared_missing_or_changed_by_hand_are_told_apart() -> None:
    given = stack({})
    there = in_cluster(given)
    assert objects.objects(given, declared(given), Seen(there)).status == "ok"
    there["services"] = there["services"][1:]
    hand = {
        "manager": "kubectl-edit",
        "time": "2026-11-28T01:00:00Z",
        "fieldsV1": {"f:spec": {"f:replicas": {}}},
    }
    there["deployments"][0]["metadata"]["managedFields"].append(hand)
    restart: dict[str, Any] = {
        "f:spec": {
            "f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}
        }
    }
    there["deployments"][1]["metadata"]["managedFields"].append(
        {"manager": "kubectl-rollout", "fieldsV1": restart}
    )
    found = objects.objects(given, declared(given), Seen(there))
    assert found.seen.splitlines() == [
        "Service prod-l4 is not in the cluster",
        "Deployment prod-l4-canary: kubectl-edit changed spec.replicas at 2026-11-28T01:00:00Z",
    ]
    assert "fleet preview --refresh -s prod" in found.remedy


def test_a_stack_file_that_is_newer_than_the_cluster_is_told() -> None:
    there = in_cluster(stack({}))
    image = "registry.example.com/gpu/triton"
    newer = stack({**pool(replicas=3), "triton": {"image": f"{image}:2"}})
    found = objects.objects(newer, declared(newer), Seen(there))
    assert found.seen.splitlines() == [
        f"Deployment prod-l4-canary: the image of triton is {image}:1, declared is {image}:2",
        "Deployment prod-l4: it has 1 pods, declared are 2",
        f"Deployment prod-l4: the image of triton is {image}:1, declared is {image}:2",
    ]
    shm = stack({"triton": {**BASE["triton"], "shmSize": "2g"}})
    assert objects.objects(shm, declared(shm), Seen(there)).seen.splitlines() == [
        "Deployment prod-l4-canary: its pods have other settings than the stack file declares",
        "Deployment prod-l4: its pods have other settings than the stack file declares",
    ]
    assert found.remedy == "the stack file or the project is newer than the cluster: fleet deploy -s prod"


def test_what_only_pulumi_decrypts_is_no_difference() -> None:
    there = in_cluster(stack(KEYS))
    # The stack file as it is read without Pulumi.
    without = stack({})
    without._encrypted = ("apiKeys",)
    found = objects.objects(without, declared(without), Seen(there))
    assert found.status == "ok", found.seen
    there["secrets"] = [each for each in there["secrets"] if "settings" not in each["metadata"]["name"]]
    found = objects.objects(without, declared(without), Seen(there))
    assert found.seen.startswith("Secret prod-l4-settings-")


def answer(status: int, body: dict[str, Any] | str) -> Answer:
    return Answer(status, (body if isinstance(body, str) else json.dumps(body)).encode())


def test_pods_tell_of_their_models_and_who_may_not_ask_is_told_how() -> None:
    given, told = stack({}), with_state(state={"running": {}}, started=True)
    for each in told.of("pods"):
        each["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
    first, second = models.to_ask(given, "l4", told)
    loading = answer(503, {"message": "model asr is not ready: loading"})
    found = models.models(given, "l4", told, {first: loading, second: loading})
    assert found.seen == f"{first}, {second}: model asr is not ready: loading"
    assert "builds engines" in found.remedy
    forbidden = answer(403, {"kind": "Status", "message": 'User "x" cannot get resource "pods/proxy"'})
    found = models.models(given, "l4", told, {first: forbidden})
    assert found.status == "warning"
    assert "create role prod-doctor-pods --verb=get --resource=pods/proxy" in found.remedy


def test_only_the_lists_that_a_stack_needs_are_asked_for() -> None:
    asked = kinds(stack({"kubernetes": {"namespace": "speech"}}))
    assert asked["pods"] == "/api/v1/namespaces/speech/pods"
    assert not {"scaledobjects", "horizontalpodautoscalers", "podmonitors", "certificates"} & asked.keys()
    assert "horizontalpodautoscalers" in kinds(stack(HPA))
    assert "pods of all namespaces" not in kinds(stack(pool(gpus=0)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "Pulumi.prod.yaml"
    made.write_text(
        yaml.safe_dump({"config": {f"gpu-inference:{key}": value for key, value in BASE.items()}})
    )
    return made


def findings(file: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    assert main(["--file", str(file), "--json", *arguments]) == 1
    return list(json.loads(capsys.readouterr().out)["findings"])


def test_without_kubectl_there_is_one_finding_and_the_rest_is_skipped(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    [found] = [each for each in findings(file, capsys) if each["status"] != "skipped"]
    assert (found["where"], found["check"]) == (["cluster"], "kubectl")
    assert found["seen"] == "kubectl is not on PATH"


def test_one_pool_can_be_examined_alone(file: Path, double: Any, capsys: pytest.CaptureFixture[str]) -> None:
    double("kubectl", f"echo '{version('clientVersion', '30')}'; echo no >&2; exit 1")
    found = findings(file, capsys, "--node", "l4")
    assert {each["where"][0] for each in found} == {"cluster", "l4"}
    assert [each["seen"] for each in found if each["status"] == "problem"] == ["no"]


def test_a_login_program_that_hangs_ends_with_its_check(
    file: Path, double: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plan, "_VERSION_SECONDS", 2.5)
    # It holds kubectl's pipes, and lives on when kubectl alone is killed.
    double("kubectl", "sleep 60")
    begin = time.monotonic()
    [found] = [each for each in findings(file, capsys) if each["status"] == "problem"]
    assert (found["check"], found["seen"]) == ("api server", "kubectl version does not end within 2.5 s")
    assert time.monotonic() - begin < 30
