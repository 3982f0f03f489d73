"""Pods that run on machines: they come up, change, die and go, and requests at the gateway do not notice.

Needs a cluster with running kubelets. tests/e2e_kubernetes/running.py has the variables that say what it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from inference_service.client.files import AudioFile
from inference_service.client.live import StreamOptions
from inference_service.client.over_grpc import ask_over_grpc, over_grpc
from inference_service.client.over_websocket import over_websocket
from tests.e2e.deployment import API_KEY, WAV
from tests.e2e.events import ended, events
from tests.e2e.lab.load import load
from tests.e2e.talks import Talk, talking
from tests.e2e_kubernetes.conftest import kubectl
from tests.e2e_kubernetes.running import Running, machine_command, missing, running
from tests.e2e_kubernetes.test_pulumi import changed, names, provider

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"not set: {', '.join(missing())}"),
    pytest.mark.skipif(not provider(), reason="no Pulumi CLI with the provider kubernetes"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("pods")) as made:
        yield made


@pytest.fixture
def site(shared: Running) -> Iterator[Running]:
    """The stack with two pods of each part, as the test before left it."""
    shared.config["nodes"][0]["replicas"] = 2
    shared.up().check()
    for part in ("l4", "gateway"):
        shared.wait(f"two pods of {part} are ready", lambda part=part: len(shared.ready(part)) == 2)
    yield shared


def test_a_stack_comes_up_as_previewed_and_answers_on_every_way(shared: Running, tmp_path: Path) -> None:
    shared.change()
    assert len(shared.ready("l4")) == len(shared.ready("gateway")) == 2
    assert shared.change().steps == {}, "nothing changed"
    assert shared.restarts() == 0

    url, grpc = (
        f"http://{shared.entrance()}:{shared.port('http')}",
        f"{shared.entrance()}:{shared.port('grpc')}",
    )
    with httpx2.Client(timeout=30, trust_env=False) as client:
        for route in ("asr", "emotion", "synthesis"):
            assert client.send(shared.request(url, route)).status_code == 200
    tone = tmp_path / "tone.wav"
    tone.write_bytes(WAV)
    assert "emotion" in ask_over_grpc(grpc, AudioFile(tone), StreamOptions(api_key=API_KEY), task="emotion")
    talks = [Talk(over_grpc(grpc)), Talk(over_websocket(url))]
    with talking(talks):
        time.sleep(3)
    assert [talk.failure for talk in talks] == [None, None]
    assert all(talk.answered > 0 for talk in talks)


def test_fleet_tells_of_the_pods_and_their_logs(site: Running) -> None:
    shown = json.loads(site.fleet("status", "--json"))
    assert [(each["name"], each["state"]) for each in shown] == [("l4", "healthy"), ("gateway", "healthy")]
    for part in ("l4", "gateway"):
        lines = site.fleet("logs", part, "-n", "2").splitlines()
        for pod in site.ready(part):
            assert sum(pod["metadata"]["name"] in line for line in lines) == 2


def other_environment(site: Running) -> None:
    site.config["service"]["env"] = {"E2E_MARK": "1"}


def other_image(site: Running) -> None:
    site.config["service"]["image"] = os.environ["E2E_SERVICE_IMAGE_NEXT"]


def other_model(site: Running) -> None:
    with (site.models / "triton/emotion/1/model.py").open("a") as file:
        file.write("# E2E_MARK\n")


def other_gateway(site: Running) -> None:
    site.config["gateway"]["connectionLimit"] = 77


@pytest.mark.parametrize(
    ("change", "part", "command", "seen", "steps"),
    [
        (
            other_environment,
            "l4",
            "-c service -- env",
            "E2E_MARK=1",
            {"l4-canary-deployment", "l4-deployment"},
        ),
        (other_image, "l4", "-c service -- true", "", {"l4-canary-deployment", "l4-deployment"}),
        (
            other_model,
            "l4",
            "-c triton -- tail -n 1 /models/emotion/1/model.py",
            "E2E_MARK",
            {"l4-canary-deployment", "l4-deployment"},
        ),
        (
            other_gateway,
            "gateway",
            "-c nginx -- grep limit_conn /run/nginx/nginx.conf",
            "77",
            {"gateway-configmap", "gateway-deployment"},
        ),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_change_rolls_the_pods_and_no_request_fails(
    site: Running, change: Callable[[Running], None], part: str, command: str, seen: str, steps: set[str]
) -> None:
    before = {each["metadata"]["uid"] for each in site.pods(part)}
    change(site)
    with site.load():
        applied = site.change()
        site.wait("the pods of before are gone", lambda: not before & site.uids(part))
    assert changed(applied) >= steps
    for pod in site.ready(part):
        assert seen in site.kubectl("exec", pod["metadata"]["name"], *command.split())
    assert site.change().steps == {}, "nothing changed"


def test_a_roll_under_every_kind_of_request_at_once_loses_nothing(site: Running) -> None:
    url, grpc = site.url(), f"{site.entrance()}:{site.port('grpc')}"
    site.config["triton"]["env"] = {"E2E_MARK": "1"}
    site.config["kubernetes"]["gateway"]["memory"] = "300m"
    talks = [Talk(over_grpc(grpc)), Talk(over_websocket(url))]
    with (
        talking(talks),
        site.load(),
        load(lambda: site.request(url, "asr"), rate=0.3) as long,
        load(lambda: events(url, WAV), rate=0.3, check=ended) as answers,
    ):
        site.up().check()
        # The pods of before still serve for some time.
        time.sleep(40)
    for seen in (long, answers):
        print(seen.summary())
        assert len(seen.outcomes) >= 10
        assert not seen.failures, seen.summary()
    for talk in talks:
        sent = talk.recording.seconds_read * 1000
        print(f"{sent:.0f} ms sent, {talk.answered} answered, went on {len(talk.retries)} times")
        assert talk.failure is None
        assert talk.answered == pytest.approx(sent, abs=50)


def test_pods_that_come_and_go_lose_no_request(site: Running) -> None:
    first = {each["metadata"]["name"] for each in site.pods("l4")}
    with site.load():
        site.config["nodes"][0]["replicas"] = 4
        applied = site.change()
        assert changed(applied) >= {"l4-deployment"}
        assert "l4-canary-deployment" not in changed(applied)
        assert len(site.ready("l4")) == 4
        # Some of the new pods have answered requests.
        logs = site.kubectl(
            "logs", "--selector=gpu-inference/pool=l4", "-c", "service", "--prefix", "--tail=-1"
        )
        answered = {line.split("/")[1] for line in logs.splitlines() if '"path":"/api/v1/ai/emotion"' in line}
        assert answered - first
        # Somebody scales by hand, as an autoscaler does it.
        site.kubectl("scale", "deployment/pods-l4", "--replicas=0")
        site.wait("the canary is left", lambda: len(site.uids("l4")) == 1)
    site.program.refresh().check()
    site.config["nodes"][0]["replicas"] = 2
    assert changed(site.up().check()) >= {"l4-deployment"}


@pytest.mark.parametrize("part", ["l4", "gateway"])
def test_a_pod_that_is_killed_takes_no_request_with_it(site: Running, part: str) -> None:
    with site.load():
        time.sleep(3)
        victim = site.ready(part)[0]["metadata"]["name"]
        site.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
        site.wait("another pod takes its place", lambda: len(site.ready(part)) == 2)
        time.sleep(10)


def test_a_machine_is_emptied_without_a_failed_request(site: Running) -> None:
    machine = site.ready("l4")[0]["spec"]["nodeName"]
    others = [each for each in site.machines() if each != machine]
    try:
        with site.load(machine=others[0]):
            kubectl("drain", machine, "--ignore-daemonsets", "--delete-emptydir-data", seconds=300)
            for part in ("l4", "gateway"):
                site.wait(f"two pods of {part} are ready", lambda part=part: len(site.ready(part)) == 2)
                assert machine not in {each["spec"]["nodeName"] for each in site.pods(part)}
    finally:
        kubectl("uncordon", machine)


@pytest.mark.skipif("E2E_MACHINE_OFF" not in os.environ, reason="E2E_MACHINE_OFF is not set")
def test_a_machine_that_loses_its_power_takes_no_request_with_it(site: Running) -> None:
    # Clients come in where the gateway answers, as a load balancer sees to it.
    site.config["kubernetes"]["service"]["externalTrafficPolicy"] = "Local"
    site.up().check()
    site.spread()
    off, *others = site.machines()
    try:
        with site.load(machine=others[0]):
            time.sleep(3)
            machine_command("E2E_MACHINE_OFF", off)
            site.wait("its pods run elsewhere", lambda: _all_on(site, set(others)), seconds=400)
            time.sleep(10)
    finally:
        machine_command("E2E_MACHINE_ON", off)
    site.wait("the machine is back", lambda: off in site.machines())


def test_nothing_is_left_of_a_stack(site: Running) -> None:
    site.program.destroy().check()
    site.wait("its pods have ended", lambda: names(site.namespace) == set())


def _all_on(site: Running, machines: set[str]) -> bool:
    return all(
        len(site.ready(part)) == 2 and {each["spec"]["nodeName"] for each in site.pods(part)} <= machines
        for part in ("l4", "gateway")
    )
