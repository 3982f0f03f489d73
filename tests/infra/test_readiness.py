"""A node is ready when its health route answers 200. Otherwise the error shows its containers' last log
lines."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from infra import health_route, node_health
from infra.connection import Connection
from infra.steps import readiness
from tests.infra.conftest import Double

HERE = Connection("unix:///nowhere.sock")


def declared(timeout: int) -> readiness.Readiness:
    return readiness.Readiness(
        node="gpu-1",
        connection=HERE,
        service="prod-gpu-1-service",
        containers=("prod-gpu-1-triton", "prod-gpu-1-service"),
        url="http://127.0.0.1:8800/api/v1/ai/health",
        timeout=timeout,
    )


def test_a_healthy_node_is_asked_in_its_own_container(double: Double) -> None:
    calls = double("docker", "")
    readiness.wait(declared(5))
    assert calls.read_text().startswith("exec prod-gpu-1-service python")


def test_a_node_that_an_existing_nginx_may_avoid_is_ready_when_it_no_longer_does(double: Double) -> None:
    double("docker", "")
    began = time.monotonic()
    readiness.wait(msgspec.structs.replace(declared(5), avoided=0.3))
    assert time.monotonic() - began >= 0.3


def test_a_node_that_builds_engines_says_so_and_what_sets_its_time(
    double: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    double("docker", 'case "$1" in exec) echo "it does not answer yet" >&2; exit 1;; esac')
    node = msgspec.structs.replace(declared(1), engines=("emotion", "synthesis"))
    with pytest.raises(
        readiness.NotReady, match=r"is not healthy after 1 s: it does not answer yet \(the first "
    ):
        readiness.wait(node)
    assert "the first load of emotion, synthesis on a GPU builds TensorRT engines" in capsys.readouterr().out


def test_processes_and_threads_are_limited_before_the_node_is_asked(
    double: Double, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = double("docker", 'case "$1" in inspect) echo true;; update) echo no cgroup >&2; exit 1;; esac')
    readiness.wait(msgspec.structs.replace(declared(5), pids={"prod-gpu-1-service": 8192}))
    assert calls.read_text().splitlines()[0] == "update --pids-limit 8192 prod-gpu-1-service"
    assert "are not limited: " in capsys.readouterr().err, "a host that cannot limit them serves all the same"


def test_a_node_becomes_ready_after_a_while(double: Double) -> None:
    double(
        "docker",
        'case "$1" in exec) n=$(wc -l <"$0.calls"); [ "$n" -ge 3 ] || { echo "loading" >&2; exit 1; };;'
        " inspect) exit 1;; esac",
    )
    readiness.wait(declared(20))


def test_a_node_that_never_is_healthy_is_named_with_its_containers_last_lines(double: Double) -> None:
    double(
        "docker",
        'case "$1" in exec) echo "model emotion is not ready: no-such-model" >&2; exit 1;;'
        ' inspect) echo "restarting, exit code 1";;'
        ' logs) for last; do :; done; echo "the last lines of $last";; esac',
    )
    begin = time.monotonic()
    with pytest.raises(readiness.NotReady) as caught:
        readiness.wait(declared(2))
    message = str(caught.value)
    assert time.monotonic() - begin < 60
    assert "node gpu-1" in message
    assert "model emotion is not ready: no-such-model" in message
    assert "the last lines of prod-gpu-1-triton" in message
    assert "the last lines of prod-gpu-1-service" in message
    assert "restarting, exit code 1" in message


def test_a_container_that_ends_again_and_again_fails_the_node_at_once(double: Double) -> None:
    double(
        "docker",
        'case "$1" in exec) echo "container is restarting" >&2; exit 1;;'
        ' inspect) case "$*" in *RestartCount*) echo "/prod-gpu-1-triton 7";'
        ' echo "/prod-gpu-1-service $(grep -c RestartCount "$0.calls")";; *) echo "restarting, exit code 1";;'
        ' esac;; logs) echo "ImportError: no module named reporting";; esac',
    )
    with pytest.raises(readiness.NotReady) as caught:
        readiness.wait(declared(3600))
    message = str(caught.value)
    assert "prod-gpu-1-service ends again and again" in message
    assert "ImportError" in message
    assert "3600" not in message


def test_images_out_of_use_are_removed_but_for_the_two_newest(double: Double) -> None:
    calls = double(
        "docker",
        'case "$1" in exec) ;; ps) echo repo/service:c;;'
        ' images) for tag in e d c b a; do echo "repo/service:$tag"; done;; inspect) exit 1;; esac',
    )
    readiness.wait(msgspec.structs.replace(declared(5), built=("repo/service",)))
    assert [call for call in calls.read_text().splitlines() if call.startswith("rmi")] == [
        "rmi repo/service:b repo/service:a"
    ]


def test_images_are_removed_of_none_that_was_not_built(double: Double) -> None:
    calls = double("docker", 'case "$1" in inspect) exit 1;; esac')
    readiness.wait(declared(5))
    assert "images" not in calls.read_text()


def test_restarts_before_the_wait_do_not_count(double: Double) -> None:
    double(
        "docker",
        'case "$1" in exec) n=$(grep -c ^exec "$0.calls"); [ "$n" -ge 4 ] || exit 1;;'
        ' inspect) case "$*" in *RestartCount*) echo "/prod-gpu-1-service 40";; *) exit 1;; esac;; esac',
    )
    readiness.wait(declared(60))


@pytest.fixture
def health() -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """A health route that gives these answers one after the other, the last one again and again."""
    answers: list[tuple[int, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/api/v1/ai/health", answers
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"{}", None),
        (503, b'{"message": "model asr is not ready"}', "model asr is not ready"),
        (503, b'{"message": 1}', "HTTP 503"),
        (502, b"<html>", "HTTP 502"),
    ],
)
def test_the_reason_is_the_services_own_where_it_gives_one(
    health: tuple[str, list[tuple[int, bytes]]], status: int, body: bytes, reason: str | None
) -> None:
    url, answers = health
    answers.append((status, body))
    assert health_route.unready(url) == reason


def test_the_text_that_runs_in_the_container_waits_and_gives_the_last_reason(
    health: tuple[str, list[tuple[int, bytes]]],
) -> None:
    url, answers = health

    def wait(seconds: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", node_health.WAIT, url, seconds]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    answers += [(503, b'{"message": "loading"}'), (200, b"{}")]
    assert wait("20").returncode == 0
    answers[:] = [(503, b'{"message": "no weights"}')]
    failed = wait("0.1")
    assert (failed.returncode, failed.stderr) == (1, "no weights\n")
