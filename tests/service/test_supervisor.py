"""The real processes: start, crash of a worker, and a stop that drops no request.

Their runtime is `remote` and calls a service in this process with the test double.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from inference_service.supervisor import TRACEBACK_SIGNAL
from tests.ports import free_port
from tests.service.conftest import Service


class Node:
    """`python -m inference_service` with its workers."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = directory / "node.log"
        self._environment = {
            **os.environ,
            "SERVER__HOST": "127.0.0.1",
            "SERVER__HTTP_PORT": str(self.port),
            "SERVER__GRPC_PORT": str(free_port()),
            "SERVER__RUNTIME_DIR": str(directory / "run"),
            "SERVER__WORKERS": "2",
            "SERVER__SHUTDOWN_GRACE": "10",
            **environment,
        }

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "inference_service"], env=self._environment, stdout=log, stderr=log
            )
        self.wait_until(lambda: len(self.serving_workers()) == 2)

    def serving_workers(self) -> set[int]:
        """The process ids of the workers whose application has started."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        started = {line["pid"] for line in lines if line["message"] == "Application startup complete."}
        return started & {child.pid for child in psutil.Process(self.process.pid).children()}

    def wait_until(self, true: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s:\n{self.log.read_text()[-3000:]}"
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise


@pytest.fixture
def node(service: Service, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, {"AI__HTTP__ENDPOINT": service.url})
    node.start()
    yield node
    node.stop()


def emotion(url: str) -> httpx2.Response:
    return httpx2.post(f"{url}/api/v1/ai/emotion", json={"text": "hello"}, timeout=60)


def emotion_unanswered(url: str) -> None:
    with pytest.raises(httpx2.TransportError):
        emotion(url)


def metric(node: Node, name: str) -> float:
    """A metric's value, summed over the workers; 0 when no worker has it."""
    lines = httpx2.get(f"{node.url}/metrics", timeout=60).text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(f"{name} "))


IN_FLIGHT = 'ai_requests_in_flight{entrance="http"}'
ANSWERED = 'ai_requests_total{entrance="http",route="/api/v1/ai/emotion",status="200"}'


def test_workers_that_crash_are_replaced_and_leave_their_counts_but_no_gauges(
    node: Node, service: Service
) -> None:
    assert emotion(node.url).status_code == 200
    # A worker counts a request after its answer, and writes gauges a moment after they changed.
    node.wait_until(lambda: metric(node, ANSWERED) == 1)
    before = node.serving_workers()
    service.runtime.hold = True
    lost = threading.Thread(target=emotion_unanswered, args=(node.url,))
    lost.start()
    node.wait_until(lambda: metric(node, IN_FLIGHT) == 2)  # that request, and the one for the metrics
    for worker in before:
        os.kill(worker, signal.SIGKILL)
    lost.join(60)
    service.runtime.hold = False
    node.wait_until(lambda: len(node.serving_workers() - before) == 2)
    for _ in range(20):
        assert emotion(node.url).status_code == 200
    node.wait_until(lambda: metric(node, IN_FLIGHT) == 1)
    node.wait_until(lambda: metric(node, ANSWERED) == 21)


@pytest.mark.parametrize("hung", [1, 2])
def test_workers_that_hang_are_replaced(service: Service, tmp_path: Path, hung: int) -> None:
    node = Node(tmp_path, {"AI__HTTP__ENDPOINT": service.url, "SERVER__HANG_TIMEOUT": "3"})
    node.start()
    try:
        before = sorted(node.serving_workers())
        for pid in before[:hung]:
            os.kill(pid, signal.SIGSTOP)
        assert httpx2.get(f"{node.url}/health", timeout=60).status_code == 200
        if hung == 1:
            assert "a worker hangs" not in node.log.read_text(), "the other worker did not take the request"
        node.wait_until(lambda: len(node.serving_workers() - set(before[:hung])) == 2)
        assert len(node.serving_workers() & set(before)) == 2 - hung, "a worker that did not hang was ended"
        assert emotion(node.url).status_code == 200
        assert node.log.read_text().count("a worker hangs") == hung
    finally:
        node.stop()


def test_a_worker_that_is_asked_writes_its_stacks_and_continues(node: Node) -> None:
    workers = node.serving_workers()
    for pid in workers:
        os.kill(pid, TRACEBACK_SIGNAL)
    node.wait_until(lambda: node.log.read_text().count("worker.py") >= 2)
    assert node.serving_workers() == workers
    assert emotion(node.url).status_code == 200


def test_a_service_that_was_stopped_as_a_whole_goes_on_with_the_same_workers(
    service: Service, tmp_path: Path
) -> None:
    node = Node(tmp_path, {"AI__HTTP__ENDPOINT": service.url, "SERVER__HANG_TIMEOUT": "2"})
    node.start()
    try:
        workers = node.serving_workers()
        everybody = [node.process.pid, *workers]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4)
        # The parent first: it sees all workers silent for twice the limit.
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.3)
        time.sleep(1.5)
        assert node.serving_workers() == workers
        assert emotion(node.url).status_code == 200
    finally:
        node.stop()


def test_sigterm_finishes_what_runs_refuses_the_rest_and_ends(service: Service, tmp_path: Path) -> None:
    # Far more than it takes to end: only a connection that holds up the end would use the grace up.
    node = Node(tmp_path, {"AI__HTTP__ENDPOINT": service.url, "SERVER__SHUTDOWN_GRACE": "120"})
    node.start()
    answers: list[httpx2.Response] = []
    running = threading.Thread(target=lambda: answers.append(emotion(node.url)))
    try:
        with httpx2.Client(base_url=node.url, timeout=60) as idle, httpx2.Client(base_url=node.url) as client:
            assert idle.get("/health").status_code == 200
            service.runtime.hold = True
            running.start()
            service.wait_until(lambda: service.runtime.running == 1)
            node.process.send_signal(signal.SIGTERM)
            node.wait_until(lambda: client.get("/health").status_code == 503)
            refused = emotion(node.url)
            assert refused.status_code == 503
            assert refused.headers["connection"] == "close"
            assert "retry-after" in refused.headers
            assert "draining" in node.log.read_text()
            node.wait_until(lambda: refuses_connections(node))
            assert running.is_alive()
            service.runtime.hold = False
            running.join(60)
            assert [answer.status_code for answer in answers] == [200]
            assert node.process.wait(60) == 0
    finally:
        service.runtime.hold = False
        node.stop()


def refuses_connections(node: Node) -> bool:
    try:
        socket.create_connection(("127.0.0.1", node.port), 60).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_grace_is_the_longest_that_a_request_can_hold_up_the_end(
    service: Service, tmp_path: Path
) -> None:
    node = Node(tmp_path, {"AI__HTTP__ENDPOINT": service.url, "SERVER__SHUTDOWN_GRACE": "2"})
    node.start()
    try:
        service.runtime.hold = True
        answers: list[httpx2.Response] = []
        running = threading.Thread(target=lambda: answers.append(emotion(node.url)))
        running.start()
        service.wait_until(lambda: service.runtime.running == 1)
        node.process.send_signal(signal.SIGTERM)
        assert node.process.wait(60) == 0
        running.join(60)
        assert [answer.status_code for answer in answers] == [503]
    finally:
        service.runtime.hold = False
        node.stop()


def test_workers_end_with_their_parent(node: Node, service: Service) -> None:
    workers = [psutil.Process(pid) for pid in node.serving_workers()]
    node.process.kill()
    node.process.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for worker in alive:
        worker.kill()
    assert not alive


def test_an_idle_worker_takes_no_more_than_150_mb(node: Node, service: Service) -> None:
    for pid in node.serving_workers():
        assert psutil.Process(pid).memory_info().rss < 150e6


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inference_service"]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("kind", ["a link", "writable for everybody"])
def test_a_runtime_folder_that_another_user_may_have_made_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "run"
    if kind == "a link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    ended = run(SERVER__RUNTIME_DIR=str(folder), SERVER__HTTP_PORT=str(free_port()))
    assert ended.returncode != 0
    assert f"server.runtime_dir: {folder} is a link, another user's, or writable" in ended.stderr


def test_a_taken_port_is_reported_with_the_setting_to_change(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = run(SERVER__HOST="127.0.0.1", SERVER__HTTP_PORT=port, SERVER__RUNTIME_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert port in ended.stderr and "SERVER__HTTP_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_settings_end_with_status_2_and_every_mistake() -> None:
    ended = run(SERVER__WORKERS="many", AI__RUNTIME__BACKEND="zmq")
    assert ended.returncode == 2
    assert "server.workers" in ended.stderr and "ai.runtime.backend" in ended.stderr
