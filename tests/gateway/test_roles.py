"""Each request reaches a node that serves its tasks: a real nginx in front of real services."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import httpx2
import pytest
from websockets.sync.client import connect

from inference_service.grpc_api.generated import ai_service_pb2 as pb
from inference_service.grpc_api.generated.ai_service_pb2_grpc import AIServiceStub
from infra.gateway.pools import TASKS
from infra.gateway.render import Site
from tests.gateway import nginx
from tests.gateway.service_node import ServiceNode, service_nodes
from tests.ports import free_port

API = "/api/v1/ai"
PCM = bytes(32_000)
AUDIO = {"content-type": "application/octet-stream"}
TIMES = range(4)


@dataclass
class Fleet:
    """A gateway over nodes by name, as it was told; a node may serve other tasks than that."""

    client: httpx2.Client
    grpc: str
    websocket: str


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServiceNode]]:
    """One node for speech recognition, one for the other tasks, and one for everything."""
    with ExitStack() as stack:
        found = {}
        for name, tasks in (("hears", ["asr"]), ("feels", ["emotion", "synthesis"]), ("all", TASKS)):
            off = {f"AI__MODELS__{task.upper()}__ENABLED": "false" for task in TASKS if task not in tasks}
            (node,) = stack.enter_context(service_nodes(1, tmp_path_factory.mktemp(name), **off))
            found[name] = replace(node, upstream=replace(node.upstream, name=name, tasks=tuple(tasks)))
        yield found


@pytest.fixture
def gateway(nodes: dict[str, ServiceNode], tmp_path: Path) -> Iterator[object]:
    """Starts a gateway over the named nodes; `told` are tasks by node that differ from the nodes' own."""
    with ExitStack() as stack:

        def start(*names: str, told: dict[str, tuple[str, ...]] | None = None) -> Fleet:
            servers = tuple(
                replace(nodes[name].upstream, tasks=(told or {}).get(name, nodes[name].upstream.tasks))
                for name in names
            )
            site = Site(servers, http=free_port(), grpc=free_port(), rate_limit=None)
            site = stack.enter_context(nginx.running(site, tmp_path))
            client = stack.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{site.http}", timeout=20))
            return Fleet(client, f"127.0.0.1:{site.grpc}", f"ws://127.0.0.1:{site.http}")

        yield start


def ask(fleet: Fleet, route: str) -> httpx2.Response:
    if route.startswith("/v1/"):
        return fleet.client.post(route, data={"model": "asr"}, files={"file": ("a.pcm", PCM)})
    return fleet.client.post(f"{API}/{route}", content=PCM, headers=AUDIO)


def analyze(fleet: Fleet, task: str) -> httpx2.Response:
    data = base64.b64encode(PCM).decode()
    body = {"task_type": task, "input_data": data, "params": {"format": "pcm"}}
    return fleet.client.post(f"{API}/analyze", json=body)


def batch(fleet: Fleet, *tasks: str) -> httpx2.Response:
    data = {"audio_data": base64.b64encode(PCM).decode(), "format": "pcm"}
    items = [{"task_id": str(at), "type": task, "data": data} for at, task in enumerate(tasks)]
    return fleet.client.post(f"{API}/batch", json={"tasks": items})


def test_each_route_goes_to_the_nodes_that_serve_its_task(gateway, nodes) -> None:
    fleet = gateway("hears", "feels")
    for _ in TIMES:
        for route in TASKS:
            assert ask(fleet, route).status_code == 200, route
    # Without the gateway, a node says that it is the wrong one.
    answer = httpx2.post(
        f"http://{nodes['hears'].upstream.http_address}{API}/emotion", content=PCM, headers=AUDIO
    )
    assert answer.status_code == 501
    assert "emotion_detection: switched off on this node (ai.models.emotion.enabled)" in answer.text


def test_tasks_in_a_body_find_their_node(gateway) -> None:
    fleet = gateway("hears", "feels")
    for _ in TIMES:
        for task in (*TASKS, "speech_recognition"):
            answer = analyze(fleet, task)
            assert answer.status_code == 200, answer.text
        together = batch(fleet, "emotion", "synthesis_detection").json()["data"]["results"]
        assert all("result" in each for each in together), together
        assert fleet.client.post(f"{API}/setup", json={"models": ["emotion"]}).status_code == 200


def test_a_batch_that_no_node_can_do_whole_is_refused_naming_the_tasks(gateway) -> None:
    fleet = gateway("hears", "feels")
    for _ in TIMES:
        answer = batch(fleet, "asr", "emotion")
        assert answer.status_code == 503
        assert answer.json()["message"] == "no node that answers serves speech_recognition,emotion_detection"
        assert not {"x-accel-redirect", "x-ai-tasks"} & set(answer.headers)


def test_a_batch_of_all_tasks_goes_to_a_node_with_all(gateway) -> None:
    fleet = gateway("hears", "feels", "all")
    for _ in TIMES:
        results = batch(fleet, "asr", "emotion", "synthesis").json()["data"]["results"]
        assert all("result" in each for each in results), results


def test_a_task_that_no_node_serves_is_refused_by_name(gateway) -> None:
    fleet = gateway("hears")
    for answer in (ask(fleet, "emotion"), analyze(fleet, "emotion")):
        assert answer.status_code == 503
        assert "no node that answers serves emotion_detection" in answer.json()["message"]
    assert ask(fleet, "asr").status_code == 200


def test_openai_and_real_time_clients_reach_speech_recognition(gateway) -> None:
    fleet = gateway("feels", "hears")
    for _ in TIMES:
        with connect(f"{fleet.websocket}/v1/realtime?intent=transcription") as socket:
            assert json.loads(socket.recv(5))["type"] != "error"
        with connect(f"{fleet.websocket}{API}/stream") as socket:
            socket.send(json.dumps({"type": "start", "format": "pcm"}))
            assert json.loads(socket.recv(5))["type"] == "ready"
        with connect(f"{fleet.websocket}{API}/stream?tasks=emotion") as socket:
            socket.send(json.dumps({"type": "start", "format": "pcm", "tasks": ["emotion"]}))
            assert json.loads(socket.recv(5))["type"] == "ready"
            socket.send(PCM)
            socket.send(json.dumps({"type": "end"}))
            assert json.loads(socket.recv(5))["type"] == "result"


@pytest.mark.parametrize("names", [("hears", "feels"), ("hears", "feels", "all")])
def test_grpc_calls_reach_speech_recognition_or_the_task_that_the_metadata_names(gateway, names) -> None:
    fleet = gateway(*names)
    with grpc.insecure_channel(fleet.grpc) as channel:
        stub = AIServiceStub(channel)
        for _ in TIMES:
            heard = stub.ProcessAudioData(
                pb.ProcessAudioDataRequest(audio_data=PCM, format="pcm"), timeout=10
            )
            assert heard.status == "ok"
            request = pb.ProcessAudioDataRequest(audio_data=PCM, format="pcm", tasks=["emotion"])
            felt = stub.ProcessAudioData(request, metadata=[("x-ai-tasks", "emotion")], timeout=10)
            assert felt.status == "ok"
        if "all" in names:
            request = pb.ProcessAudioDataRequest(audio_data=PCM, format="pcm", tasks=list(TASKS))
            assert stub.ProcessAudioData(request, timeout=10).status == "ok"


def test_a_node_whose_tasks_have_changed_before_the_gateway_knows_fails_no_request(gateway) -> None:
    # During an update the nodes change first, and the gateway's configuration last.
    fleet = gateway("hears", "all", told={"hears": TASKS})
    for _ in range(20):
        for route in TASKS:
            assert ask(fleet, route).status_code == 200, route
        assert batch(fleet, *TASKS).status_code == 200


def test_a_node_that_serves_a_task_before_the_gateway_knows_stands_in(gateway) -> None:
    fleet = gateway("hears", "all", told={"all": ("emotion",), "hears": ("asr", "synthesis")})
    for _ in TIMES:
        assert ask(fleet, "synthesis").status_code == 200


def test_a_node_is_not_avoided_for_tasks_that_it_does_not_serve(gateway) -> None:
    fleet = gateway("hears", "all", told={"hears": TASKS})
    for _ in range(10):
        assert ask(fleet, "emotion").status_code == 200
        assert ask(fleet, "asr").status_code == 200
