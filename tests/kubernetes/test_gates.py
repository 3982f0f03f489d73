"""The gates of an update in a cluster: who is judged, what a bad change leads to, and what runs then.

`FakeCluster` stands for the API server and its controllers; tests/e2e_kubernetes has real ones.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest

from infra.kubernetes import labels, pool
from infra.kubernetes.objects import objects
from infra.stack import Rollout
from infra.update import work
from infra.update.cluster import gates, way_back
from infra.update.cluster.gates import Bad, Gate, Gates
from infra.update.cluster.kubectl import ClusterError
from infra.update.cluster.progress import finished, hopeless, stubborn
from tests.kubernetes.stacks import stack

pytestmark = pytest.mark.fast

GOOD = {"asr": {"status": 200, "seconds": 0.1, "message": "", "answer": {"text": "one two three"}}}
NEW, OLD = "new", "old"


class FakeCluster:
    """A pool `l4` of two pods, whose canary has changed. `works` are the pods' answers by their revision."""

    def __init__(self, **config: Any) -> None:
        self.stack = stack({"nodes": [{"name": "l4", "replicas": 2, "tasks": ["asr"]}], **config})
        self.works = {OLD: GOOD, NEW: GOOD}
        self.said: list[str] = []
        self.worked: set[str] = set()
        self.pods: dict[str, dict[str, Any]] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.recorded: dict[str, str | None] = {}
        for each in objects(self.stack):
            if each["kind"] == "Deployment" and each["metadata"]["name"].startswith("prod-l4"):
                self._add(each)
        self.change("prod-l4-canary")

    def _add(self, deployment: dict[str, Any]) -> None:
        made = copy.deepcopy(deployment)
        name = made["metadata"]["name"]
        made["metadata"]["generation"] = 1
        counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
        made["status"] = {"observedGeneration": 1, **counts}
        self.deployments[name] = made
        self.recorded[name] = OLD
        self.revise(name, OLD)

    def revise(self, name: str, revision: str) -> None:
        """All pods of a Deployment are of a revision, and ready."""
        template = self.deployments[name]["spec"]["template"]
        template["metadata"]["annotations"][labels.REVISION] = revision
        self.pods = {key: pod for key, pod in self.pods.items() if not key.startswith(f"{name}-of-")}
        pod = {"metadata": copy.deepcopy(template["metadata"]), "kind": "Pod"}
        pod["metadata"]["name"] = f"{name}-of-{revision}"
        pod["status"] = {"conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": []}
        self.pods[pod["metadata"]["name"]] = pod

    def change(self, name: str) -> None:
        self.revise(name, NEW)

    # What the update asks of kubectl.

    def named(self, kind: str, name: str) -> dict[str, Any] | None:
        if kind == "configmap":
            found = self.recorded[name.removesuffix("-good")]
            return None if found is None else {"data": {"revision": found}}
        return self.deployments.get(name) if kind == "deployment" else self.pods.get(name)

    def listed(self, kind: str, selecting: Mapping[str, str]) -> list[dict[str, Any]]:
        if kind == "replicasets":
            return [
                {
                    "metadata": {"annotations": {"deployment.kubernetes.io/revision": number}},
                    "spec": {"template": {"metadata": {"annotations": {labels.REVISION: revision}}}},
                }
                for number, revision in (("4", OLD), ("5", NEW))
            ]
        held = self.deployments if kind == "deployments" else self.pods
        return [each for each in held.values() if selecting.items() <= each["metadata"]["labels"].items()]

    def run(self, *arguments: str, given: str | None = None, seconds: float = 0) -> str:
        match arguments:
            case ("exec", "-i", name, *_):
                revision = self.pods[name]["metadata"]["annotations"][labels.REVISION]
                asked = json.loads(given or "")
                self.worked |= {name} if "audio" in asked else set()
                found = {
                    "requests": {},
                    "offers": {"status": 200, "message": ""},
                    "work": self.works[revision],
                }
                return json.dumps(found if "audio" in asked else {"requests": {}})
            case ("label", "pods", *names, mark, "--overwrite"):
                key, _, value = mark.partition("=")
                for name in names:
                    self.pods[name]["metadata"]["labels"][key] = value
            case ("rollout", "undo", deployment, number):
                assert number == "--to-revision=4", "the revision that was found good, not the one before"
                self.revise(deployment.removeprefix("deployment/"), OLD)
            case ("apply", "--server-side", *_):
                part = json.loads(given or "")["metadata"]
                self.deployments[part["name"]]["metadata"]["annotations"] |= part["annotations"]
            case ("logs", *_):
                return "the last line\n"
            case other:
                raise AssertionError(other)
        return ""

    def hold(self, track: str = labels.CANARY) -> None:
        [own] = self.stack.pools
        gate = Gate(
            pool="l4",
            deployment=pool.deployment_name(self.stack, own, track),
            selecting=labels.of_track(self.stack, own, track),
            revision=NEW,
            tasks=["asr"],
            first=track == labels.CANARY,
            seconds=0.2,
        )
        self.gates.hold(gate)

    @property
    def gates(self) -> Gates:
        if not hasattr(self, "_gates"):
            nodes = labels.of_nodes(self.stack)
            self._gates = Gates(self, self.stack.rollout, nodes, {"l4": ["asr"]}, self.said.append)  # type: ignore[arg-type]
        return self._gates


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(work, "_QUIET_SECONDS", 0.02)
    monkeypatch.setattr(gates, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(gates, "_PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(way_back, "_POLL_SECONDS", 0.01)


def answers(status: int, text: str = "", message: str = "") -> dict[str, Any]:
    return {"asr": {"status": status, "seconds": 0.1, "message": message, "answer": {"text": text}}}


def waiting(reason: str, message: str = "", **further: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "service", "ready": False, "state": state, **further}


def test_pods_that_do_their_work_pass() -> None:
    cluster = FakeCluster()
    cluster.hold()
    assert cluster.worked == {"prod-l4-canary-of-new", "prod-l4-of-old"}, "the canary, and one to compare"


def test_a_canary_that_answers_nothing_gets_no_more_requests_and_goes_back() -> None:
    cluster = FakeCluster()
    cluster.works[NEW] = answers(503, message="the model is not ready")
    with pytest.raises(Bad) as bad:
        cluster.hold()
    assert "asr: answers 503 the model is not ready" in str(bad.value)
    assert "They get no more requests: other pods serve." in str(bad.value)
    assert "prod-l4-canary: runs again what was deployed before" in str(bad.value)
    assert str(bad.value).endswith("the last line")
    assert set(cluster.pods) == {"prod-l4-of-old", "prod-l4-canary-of-old"}


def test_a_canary_that_hears_other_words_is_bad() -> None:
    cluster = FakeCluster()
    cluster.works[NEW] = answers(200, "and so on")
    with pytest.raises(Bad, match="hears “and so on” where a node that has not changed hears"):
        cluster.hold()


def test_without_a_way_back_a_bad_canary_stays_without_requests() -> None:
    cluster = FakeCluster(rollout={"onFailure": "stop"})
    cluster.works[NEW] = answers(503)
    with pytest.raises(Bad) as bad:
        cluster.hold()
    assert "rolled back" not in str(bad.value)
    assert cluster.pods["prod-l4-canary-of-new"]["metadata"]["labels"][labels.TRAFFIC] == labels.OFF


def test_the_only_pods_that_serve_keep_their_requests() -> None:
    cluster = FakeCluster(rollout={"onFailure": "stop"})
    del cluster.pods["prod-l4-of-old"]
    cluster.works[NEW] = answers(503)
    with pytest.raises(Bad, match="They keep their requests, because no other pod serves"):
        cluster.hold()
    assert cluster.pods["prod-l4-canary-of-new"]["metadata"]["labels"][labels.TRAFFIC] == labels.ON


def test_when_the_other_pods_fail_the_canary_goes_back_too() -> None:
    cluster = FakeCluster()
    cluster.hold()
    cluster.change("prod-l4")
    cluster.works[NEW] = answers(503)
    with pytest.raises(Bad) as bad:
        cluster.hold(labels.STABLE)
    assert "prod-l4: runs again" in str(bad.value)
    assert "prod-l4-canary: runs again" in str(bad.value)
    assert all("rolled-back" in str(each["metadata"]["annotations"]) for each in cluster.deployments.values())


def test_the_next_update_sets_again_what_was_put_back() -> None:
    cluster = FakeCluster()
    cluster.works[NEW] = answers(503)
    with pytest.raises(Bad):
        cluster.hold()
    found = way_back.rolled_back(cluster, labels.of_stack(cluster.stack))  # type: ignore[arg-type]
    assert found.keys() == {"prod-l4-canary"}
    [own] = cluster.stack.pools
    images = {"service": "s", "triton": "t"}
    before = pool.objects(cluster.stack, own, images, None)
    after = pool.objects(cluster.stack, own, images, None, found)
    changed = [new["metadata"]["name"] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["prod-l4-canary", "prod-l4-canary-good"], "the gate is held again"


def test_a_first_deployment_has_nothing_to_go_back_to() -> None:
    cluster = FakeCluster()
    cluster.recorded["prod-l4-canary"] = None
    cluster.works[NEW] = answers(503)
    del cluster.pods["prod-l4-of-old"]
    with pytest.raises(Bad, match="nothing ran before, so it stays as it is"):
        cluster.hold()


def test_another_number_of_pods_is_waited_for_and_not_judged() -> None:
    cluster = FakeCluster()
    cluster.recorded["prod-l4-canary"] = NEW
    cluster.works[NEW] = answers(503)
    cluster.hold()
    assert cluster.worked == set()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (waiting("CrashLoopBackOff", restartCount=3), "which ended 3 times: service: CrashLoopBackOff"),
        (waiting("InvalidImageName", "no such name"), "InvalidImageName no such name"),
        (waiting("ImagePullBackOff", "not found"), "ImagePullBackOff not found"),
    ],
)
def test_pods_that_cannot_start_fail_the_update_before_its_time_is_over(
    status: dict[str, Any], said: str
) -> None:
    cluster = FakeCluster()
    cluster.deployments["prod-l4-canary"]["status"]["availableReplicas"] = 0
    new = cluster.pods["prod-l4-canary-of-new"]["status"]
    new |= {"conditions": [], "containerStatuses": [status]}
    with pytest.raises(Bad) as bad:
        cluster.hold()
    assert said in str(bad.value)
    assert "not ready within" not in str(bad.value)


def test_a_pod_that_waits_for_a_gpu_says_so_when_the_time_is_over() -> None:
    cluster = FakeCluster()
    cluster.deployments["prod-l4-canary"]["status"]["availableReplicas"] = 0
    unplaced = {"type": "PodScheduled", "status": "False", "message": "Insufficient nvidia.com/gpu."}
    cluster.pods["prod-l4-canary-of-new"]["status"] = {"conditions": [unplaced]}
    with pytest.raises(Bad, match=r"not ready within 0 s: Insufficient nvidia.com/gpu."):
        cluster.hold()


def test_what_somebody_changed_meanwhile_is_not_judged() -> None:
    cluster = FakeCluster()
    cluster.revise("prod-l4-canary", OLD)
    with pytest.raises(Bad, match="its template is not the one of this update"):
        cluster.hold()


def test_a_cluster_that_does_not_answer_fails_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()

    def silent(kind: str, name: str) -> None:
        raise ClusterError("Unable to connect to the server")

    monkeypatch.setattr(cluster, "named", silent)
    with pytest.raises(Bad, match="could not be judged: Unable to connect to the server"):
        cluster.hold()


def deployment(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status}


def test_a_change_is_finished_when_all_pods_are_new_and_serve() -> None:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 3)
    assert finished(deployment(observedGeneration=2, **counts))
    assert not finished(deployment(observedGeneration=1, **counts)), "the controller has not seen it"
    assert not finished(deployment(observedGeneration=2, **{**counts, "replicas": 4})), "an old pod ends"
    assert not finished(deployment(observedGeneration=2, **{**counts, "updatedReplicas": 2}))


def test_a_quota_is_stubborn_and_a_deadline_hopeless() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: q"}
    late = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "status": "False", "message": "late"}
    assert stubborn(deployment(conditions=[refused]), []) == "exceeded quota: q"
    assert hopeless(deployment(conditions=[refused]), []) is None
    assert hopeless(deployment(conditions=[late, refused]), []) == "late; exceeded quota: q"


def test_canaries_are_never_all_pods_of_a_pool() -> None:
    def first(replicas: int, canary: int) -> int:
        given = stack({"nodes": [{"name": "a", "replicas": replicas}], "rollout": {"canary": canary}})
        return pool.canaries(given, given.pools[0])

    assert [first(replicas, 1) for replicas in (0, 1, 2, 9)] == [0, 0, 1, 1]
    assert [first(replicas, 4) for replicas in (2, 5, 9)] == [1, 4, 4]
    assert first(9, 0) == 0
    assert Rollout().canary == 1
