"""The console's hour from before its start: from a real Prometheus that read a node."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest
import yaml

from inference_service.console.figures import Figures
from inference_service.console.history import History
from inference_service.console.recall import fill
from tests.ports import free_port

PAGE = """\
# TYPE ai_requests_total counter
ai_requests_total{{route="/api/v1/ai/asr",method="POST",status="200"}} {served}
ai_requests_total{{route="/api/v1/ai/asr",method="POST",status="503"}} {failed}
ai_requests_total{{route="/health",method="GET",status="200"}} 1000000
# TYPE ai_request_seconds histogram
ai_request_seconds_bucket{{route="/api/v1/ai/asr",le="0.5"}} {served}
ai_request_seconds_bucket{{route="/api/v1/ai/asr",le="+Inf"}} {served}
# TYPE ai_inferences_running gauge
ai_inferences_running 3
# TYPE ai_inferences_queued gauge
ai_inferences_queued 0
"""


def moment(requests: float) -> Figures:
    return Figures(requests=requests)


@pytest.mark.fast
def test_what_is_recalled_is_before_what_the_console_saw_itself() -> None:
    history = History(5)
    for when in (100.0, 104.0):
        history.add(when, moment(9))
    history.recall([(when, moment(1)) for when in (40.0, 55.0, 70.0, 85.0, 100.0, 115.0)])
    columns = history.columns(["requests"])
    assert columns["time"] == [55.0, 70.0, 85.0, 100.0, 104.0]
    assert columns["requests"] == [1, 1, 1, 9, 9]
    history.add(108.0, moment(9))
    assert history.columns(["requests"])["time"] == [70.0, 85.0, 100.0, 104.0, 108.0]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [(200, b"<html>", "does not answer as Prometheus"), (503, b"", "HTTP 503"), (0, b"", "port is closed")],
)
def test_without_an_answer_there_is_a_line_and_no_history(
    capsys: pytest.CaptureFixture[str], status: int, body: bytes, reason: str
) -> None:
    history = History(5)
    if status:
        with served(status, lambda: body) as port:
            asyncio.run(fill(f"http://127.0.0.1:{port}", "test", history, {}))
    else:
        asyncio.run(fill(f"http://127.0.0.1:{free_port()}", "test", history, {}))
    assert reason in capsys.readouterr().err
    assert history.columns()["time"] == []


@contextmanager
def served(status: int, body: object) -> Iterator[int]:
    """A server on a port that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = body()  # type: ignore[operator]
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(
    not shutil.which("prometheus"), reason="prometheus is missing: tests/install.sh installs it"
)
def test_a_console_that_starts_has_what_prometheus_saw(tmp_path: Path) -> None:
    began = time.monotonic()

    def page() -> bytes:
        count = 100 * (time.monotonic() - began)
        return PAGE.format(served=int(count * 0.75), failed=int(count * 0.25)).encode()

    port = free_port()
    with served(200, page) as node:
        target = {"targets": [f"127.0.0.1:{node}"], "labels": {"stack": "test", "node": "gpu-1"}}
        made = {
            "global": {"scrape_interval": "500ms"},
            "scrape_configs": [{"job_name": "fleet-node", "static_configs": [target]}],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(made))
        started = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _until_rates(port)
            fleet, one, other = History(900), History(900), History(900)
            # Prometheus counts from whole seconds here, and the rate may be newer than the last one.
            while not one.columns()["time"] and time.monotonic() < began + 60:
                asyncio.run(fill(f"http://127.0.0.1:{port}", "test", fleet, {"gpu-1": one}))
            asyncio.run(fill(f"http://127.0.0.1:{port}", "another", other, {}))
        finally:
            started.terminate()
            started.wait(20)
    assert other.columns()["time"] == []
    for history in (fleet, one):
        columns = history.columns()
        assert columns["running"][-1] == 3 and columns["queued"][-1] == 0
        # Of a minute that is not over yet, a rate is that of a whole minute.
        requests = columns["requests"][-1]
        assert requests is not None and 0 < requests < 130
        assert columns["errors"][-1] == pytest.approx(0.25, abs=0.05)
        assert columns["p50"][-1] == pytest.approx(0.25, abs=0.01)
        assert columns["gpu"][-1] is None


def _until_rates(port: int) -> None:
    """Waits until Prometheus has a point of its grid of 15 s with a rate."""
    url = f"http://127.0.0.1:{port}/api/v1/query_range"
    end = time.monotonic() + 60
    with httpx2.Client(trust_env=False) as client:
        while time.monotonic() < end:
            now = time.time()
            asked = {"query": "rate(ai_requests_total[1m])", "start": now - 3600, "end": now, "step": 15}
            try:
                answer = client.get(url, params=asked)
                found = answer.json()["data"]["result"] if answer.status_code == 200 else []
                # Between two early readings the page's counters may not have grown.
                if sum(float(each["values"][-1][1]) > 0 for each in found) == 2:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.3)
    raise AssertionError("Prometheus has no rate within 60 s")
