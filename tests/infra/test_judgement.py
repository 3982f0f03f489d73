"""A node that has changed is bad by its work, compared with nodes that have not changed."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from infra import node_probe
from infra.connection import Connection
from infra.node_health import NodeAddress
from infra.stack import Judge
from infra.update import trials, work
from infra.update.judgement import Counted, agreement, together, traffic, traffic_problems, work_problems

JUDGE = Judge()
TEXT = "ask not what your country can do for you"


def probed(text: str = TEXT, seconds: float = 0.5, **more: Any) -> dict[str, Any]:
    """What a node with three tasks answers; `more` replaces the answer to a task."""
    answers = {
        "asr": {"text": text},
        "emotion": {"emotion": "calm", "emotions": {"calm": 1.0}},
        "synthesis": {"is_synthetic": False, "score": 0.1},
    }
    work = {
        task: {"status": 200, "seconds": seconds, "message": "success", "answer": answer}
        for task, answer in answers.items()
    }
    return {"offers": {"status": 200, "message": "success"}, "work": {**work, **more}}


def test_a_node_that_does_its_work_is_good_with_and_without_others() -> None:
    assert work_problems(probed(), probed(), JUDGE) == []
    assert work_problems(probed(), None, JUDGE) == []
    assert work_problems(probed(seconds=1.2), probed(), JUDGE) == [], "a busy machine"


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (
            {"asr": {"status": 503, "seconds": 0.1, "message": "no model", "answer": None}},
            "asr: answers 503 no",
        ),
        (
            {"asr": {"status": 0, "seconds": 30, "message": "no answer within 30 s", "answer": None}},
            "asr: answers no answer within 30 s",
        ),
        (
            {"emotion": {"status": 200, "seconds": 0.1, "message": "", "answer": {"emotion": "calm"}}},
            "emotion: its answer has no valid `emotions`",
        ),
        (
            {"synthesis": {"status": 200, "seconds": 0.1, "message": "", "answer": None}},
            "synthesis: its answer has no valid `is_synthetic`",
        ),
    ],
)
def test_an_answer_without_a_result_is_bad(changed: dict[str, Any], problem: str) -> None:
    [said] = work_problems(probed(**changed), probed(), JUDGE)
    assert said.startswith(problem)


def test_a_node_that_is_much_slower_or_hears_something_else_is_bad() -> None:
    slow = work_problems(probed(seconds=4.0), probed(seconds=0.4), JUDGE)
    assert len(slow) == 3
    assert "takes 4.00 s for a recording that a node that has not changed answers in 0.40 s" in slow[0]
    [wrong] = work_problems(probed(text="you you you"), probed(), JUDGE)
    assert "hears “you you you” where" in wrong
    assert work_problems(probed(text="you you you"), probed(), Judge(agreement=0)) == []


def test_what_no_node_can_do_is_no_fault_of_the_change() -> None:
    full = {"asr": {"status": 503, "seconds": 0.1, "message": "the node is full", "answer": None}}
    assert work_problems(probed(**full), probed(**full), JUDGE) == []


def test_a_task_that_others_offer_must_not_be_lost() -> None:
    fewer = probed()
    del fewer["work"]["synthesis"]
    assert work_problems(fewer, probed(), JUDGE) == ["synthesis: is no longer offered"]
    assert work_problems(probed(), fewer, JUDGE) == []


def test_a_node_that_serves_fewer_tasks_by_the_stack_file_has_lost_none() -> None:
    fewer = probed()
    del fewer["work"]["synthesis"]
    assert work_problems(fewer, probed(), JUDGE, ["asr", "emotion"]) == []
    del fewer["work"]["emotion"]
    assert work_problems(fewer, probed(), JUDGE, ["asr", "emotion"]) == ["emotion: is no longer offered"]


def test_a_node_is_compared_in_each_task_with_a_node_that_does_it() -> None:
    hears, feels = probed(), probed()
    del hears["work"]["emotion"], hears["work"]["synthesis"], feels["work"]["asr"]
    peers = together([feels, hears])
    assert peers is not None
    assert peers["work"].keys() == {"asr", "emotion", "synthesis"}
    assert len(work_problems(probed(seconds=4.0), peers, JUDGE)) == 3
    full = probed(asr={"status": 503, "seconds": 0.1, "message": "the node is full", "answer": None})
    assert together([full, hears])["work"]["asr"]["status"] == 200  # type: ignore[index]
    assert together([]) is None


def test_transcripts_agree_in_words_whatever_their_case_and_signs() -> None:
    assert agreement("Ask not, what your country…", "ask not what your country…") == 1
    assert agreement("", "") == 1
    assert agreement("Thank you.", TEXT) < 0.3


def counted(**routes: tuple[float, float, float]) -> dict[str, Any]:
    return {
        "requests": {
            f"http {route}": dict(zip(("all", "failed", "seconds"), values, strict=True))
            for route, values in routes.items()
        }
    }


def test_only_requests_since_the_first_look_count_and_not_those_of_a_worker_that_went() -> None:
    before = counted(asr=(100, 50, 900), emotion=(10, 0, 1))
    after = counted(asr=(130, 51, 903), emotion=(4, 0, 1), synthesis=(2, 0, 1))
    assert traffic(before, after) == {
        "http asr": Counted(30, 1, 3),
        "http synthesis": Counted(2, 0, 1),
    }


@pytest.mark.parametrize(
    ("mine", "theirs", "bad"),
    [
        (Counted(40, 0, 4), Counted(40, 0, 4), False),
        (Counted(40, 10, 4), Counted(40, 0, 4), True),
        (Counted(40, 10, 4), Counted(40, 9, 4), False),
        (Counted(2, 2, 4), Counted(40, 0, 4), False),
        (Counted(3, 3, 4), Counted(40, 0, 4), True),
        (Counted(10, 3, 4), Counted(40, 0, 4), False),
        (Counted(40, 40, 4), Counted(), True),
        (Counted(40, 0, 80), Counted(40, 0, 8), True),
        (Counted(40, 0, 4.4), Counted(40, 0, 0.4), False),
        (Counted(40, 0, 80), Counted(5, 0, 1), False),
    ],
    ids=[
        "alike",
        "fails",
        "all fail",
        "too few",
        "few and all",
        "few of few",
        "nothing to compare with",
        "slow",
        "milliseconds",
        "few there",
    ],
)
def test_requests_that_fail_or_are_slow_here_and_not_elsewhere_are_bad(
    mine: Counted, theirs: Counted, bad: bool
) -> None:
    problems = traffic_problems({"http asr": mine}, {"http asr": theirs}, JUDGE)
    assert bool(problems) is bad, problems


def test_a_few_failures_of_each_of_several_kinds_are_bad_together() -> None:
    mine = {route: Counted(2, 2, 1) for route in ("http asr", "http emotion", "grpc asr")}
    [problem] = traffic_problems(mine, {"http asr": Counted(50, 0, 1)}, JUDGE)
    assert problem.startswith("all requests: 6 of 6 requests failed")


METRICS = """
ai_requests_total{entrance="http",route="/api/v1/ai/asr",status="200"} 3.0
ai_requests_total{entrance="http",route="/api/v1/ai/asr",status="503"} 1.0
ai_requests_total{entrance="http",route="/api/v1/ai/asr",status="400"} 1.0
ai_requests_total{entrance="http",route="/api/v1/ai/health",status="200"} 99.0
ai_requests_total{entrance="grpc",route="ProcessAudioData",status="UNAVAILABLE"} 2.0
ai_request_seconds_sum{entrance="http",route="/api/v1/ai/asr"} 2.5
"""


@pytest.fixture
def node() -> Iterator[tuple[str, list[str]]]:
    """A double of the service's HTTP API, and the keys that it was sent. Its emotion is slow."""
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            info = {"data": {"capabilities": ["speech_recognition", "emotion_detection"]}}
            self.answer(200, METRICS if self.path == "/metrics" else json.dumps(info))

        def do_POST(self) -> None:
            keys.append(self.headers.get("X-API-Key", ""))
            self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.endswith("/emotion"):
                time.sleep(0.5)
            self.answer(200, json.dumps({"message": "success", "data": {"text": "one two"}}))

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", keys
        server.shutdown()


def test_the_text_that_runs_in_the_container_asks_each_task_and_counts_the_requests_for_work(
    node: tuple[str, list[str]],
) -> None:
    url, keys = node
    asked = {"url": url, "audio": base64.b64encode(b"RIFF").decode(), "times": 2, "seconds": 0.2}
    done = subprocess.run(
        [sys.executable, "-c", Path(node_probe.__file__).read_text()],
        input=json.dumps(asked),
        env={"SERVER__API_KEYS": '["example-key-1"]'},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["work"]["asr"]["answer"] == {"text": "one two"}
    assert found["work"]["emotion"]["message"] == "no answer within 0.2 s"
    assert keys == ["example-key-1"] * 3, "a task that failed is not asked again"
    assert found["requests"] == {
        "http /api/v1/ai/asr": {"all": 5, "failed": 1, "seconds": 2.5},
        "grpc ProcessAudioData": {"all": 2, "failed": 2, "seconds": 0},
    }


def test_only_restarts_since_they_could_first_be_counted_are_the_canarys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stands for a host that answers the first and the third question for restarts too late."""
    answers = iter([None, 7, None, 7, 8])
    monkeypatch.setattr(trials.NodeOnHost, "restarts", lambda node: next(answers))
    monkeypatch.setattr(trials.NodeOnHost, "probe", lambda node, asked, seconds: {"requests": {}})
    monkeypatch.setattr(work, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(work, "_QUIET_SECONDS", 60)
    address = NodeAddress("gpu-1", Connection("ssh://root@192.0.2.1"), "service", ("service",))
    canary = trials.NodeOnHost(address, ("asr",))
    assert work.serves(canary, [], JUDGE, 30) == ["its containers ended 1 times while it served"]
