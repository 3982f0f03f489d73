"""A node's `/metrics` has the metrics of its Triton too."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from inference_service.runtime_metrics import RuntimeMetrics
from inference_service.settings import Settings, load
from tests.ports import free_port

PAGE = b"# TYPE nv_gpu_utilization gauge\nnv_gpu_utilization 0.5\n"


def settings(**variables: str) -> Settings:
    """The settings with variables such as `AI__RUNTIME__TRITON__ENDPOINT`, by the end of their names."""
    return load(None, {f"AI__{name}": value for name, value in variables.items()})[0]


class Triton(BaseHTTPRequestHandler):
    """Triton's metrics port; `/metrics` with `status`."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/metrics" else 404)
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def triton() -> Iterator[tuple[type[Triton], Settings]]:
    with HTTPServer(("127.0.0.1", free_port()), Triton) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Triton, settings(RUNTIME__TRITON__METRICS_ENDPOINT=f"127.0.0.1:{server.server_port}")
        server.shutdown()


async def test_the_figures_of_triton_are_there(triton: tuple[type[Triton], Settings]) -> None:
    text = await RuntimeMetrics(triton[1]).text()
    assert text.endswith(b"\nai_runtime_metrics_up 1\n" + PAGE)


async def test_a_triton_that_refuses_is_said_to_be_silent(
    triton: tuple[type[Triton], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton[0], "status", 500)
    assert (await RuntimeMetrics(triton[1]).text()).endswith(b"\nai_runtime_metrics_up 0\n")


async def test_a_triton_that_is_not_there_is_said_to_be_silent() -> None:
    nowhere = settings(RUNTIME__TRITON__ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert (await RuntimeMetrics(nowhere).text()).endswith(b"\nai_runtime_metrics_up 0\n")


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "http://triton:8002/metrics"),
        ({"ENDPOINT": "http://gpu.example.com:9000"}, "http://gpu.example.com:9002/metrics"),
        ({"ENDPOINT": "triton:8001"}, "http://triton:8002/metrics"),
        ({"GRPC_ENDPOINT": "192.0.2.1:50"}, "http://192.0.2.1:51/metrics"),
        ({"METRICS_ENDPOINT": "192.0.2.1:70"}, "http://192.0.2.1:70/metrics"),
    ],
)
def test_the_metrics_port_is_the_one_after_the_grpc_port(variables: dict[str, str], url: str) -> None:
    found = settings(**{f"RUNTIME__TRITON__{name}": value for name, value in variables.items()})
    assert found.ai.runtime.triton.metrics_url == url


async def test_a_remote_runtime_has_no_metrics() -> None:
    assert await RuntimeMetrics(settings(HTTP__ENDPOINT="http://192.0.2.1:8800")).text() == b""
