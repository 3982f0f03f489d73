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
from tests.e2e.talks import Talk, talking
from tests.e2e_kubernetes.running import Running, missing, running
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
    """The stack as the first test brought it up, and as the test before left it."""
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


def test_nothing_is_left_of_a_stack(site: Running) -> None:
    site.program.destroy().check()
    site.wait("its pods have ended", lambda: names(site.namespace) == set())
