"""Traces without a collector that takes them: requests go on, and the end is in time."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from inference_service import tracing
from inference_service.runtimes.base import Call
from inference_service.runtimes.remote import RemoteRuntime
from inference_service.settings import Settings, SettingsError, TracesSettings, load
from inference_service.tracing.otlp import MOST_CHILDREN, OtlpTracer
from tests.collector import collector
from tests.gateway.service_node import ServiceNode, service_nodes
from tests.ports import free_port
from tests.service.conftest import Service
from tests.service.streams import tone

REQUESTS = 15


class Answer:
    route, status = "/x", "200"


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def slowest(node: ServiceNode) -> float:
    """The longest of some requests in seconds, all of them answered."""
    longest = 0.0
    with httpx2.Client(base_url=f"http://{node.upstream.http_address}/api/v1/ai") as client:
        headers = {"content-type": "audio/pcm;rate=16000"}
        for _ in range(REQUESTS):
            begun = time.perf_counter()
            assert client.post("/asr", content=tone(0.2), headers=headers).is_success
            longest = max(longest, time.perf_counter() - begun)
    return longest


@pytest.mark.parametrize("kind", ["nobody listens", "never answers"])
def test_a_collector_that_is_away_costs_no_request_and_does_not_hold_the_end(
    tmp_path: Path, kind: str
) -> None:
    with silent() as unanswered:
        port = unanswered if kind == "never answers" else free_port()
        settings = {
            "SERVER__TRACES__ENDPOINT": f"http://127.0.0.1:{port}",
            "SERVER__TRACES__SHARE": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        with service_nodes(1, tmp_path, **settings) as [node]:
            slowest(node)  # deliveries are under way now
            assert slowest(node) < 1.5  # a delivery takes 2 s
            begun = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(30) == 0
            # The linger for the gateway (1 s), the spans' three, and what a busy machine takes.
            assert time.monotonic() - begun < 1 + tracing.STOP_SECONDS + 5


def test_the_end_of_a_node_sends_what_is_left(tmp_path: Path) -> None:
    with collector() as received:
        settings = {
            "SERVER__TRACES__ENDPOINT": received.url,
            "SERVER__TRACES__SHARE": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "60000",
        }
        with service_nodes(1, tmp_path, **settings) as [node]:
            slowest(node)
            assert not received.spans
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(30) == 0
            assert len([each for each in received.spans if each.name == "http /api/v1/ai/asr"]) == REQUESTS


def test_a_request_of_many_inferences_has_a_limited_number_of_spans() -> None:
    with collector() as received:
        tracer = OtlpTracer(TracesSettings(endpoint=received.url, share=1.0))
        trace = tracer.request("websocket", "one", {}.get, None)
        for _ in range(MOST_CHILDREN + 5):
            if (child := trace.child("inference", {})) is not None:
                child.end()
        for _ in range(1000):
            trace.event("partial", {})
        trace.answered(Answer())
        tracer.stop(5)
        [server] = [each for each in received.spans if not each.parent_id]
        assert len(received.spans) == 1 + MOST_CHILDREN
        assert server.attributes["ai.spans_left_out"] == 5
        assert len(server.events) == 128


async def test_a_remote_node_passes_the_trace_on_whatever_its_share(service: Service) -> None:
    trace_id, client = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
    with collector() as received:
        data = {
            "ai": {"runtime": {"backend": "remote"}, "http": {"endpoint": service.url}},
            "server": {"traces": {"endpoint": received.url, "share": 0}},
        }
        remote = RemoteRuntime(Settings.model_validate(data))
        tracing.start(Settings.model_validate(data))  # of the other service, too, in this process
        try:
            await remote.start()
            given = {"traceparent": f"00-{trace_id}-{client}-01"}
            with tracing.request("http", Answer(), "one", given.get):
                await remote.emotion_of_text("a text", Call("one"))
            await remote.close()
        finally:
            tracing.stop()
        [here] = received.of(trace_id)["http /x"]
        [there] = received.of(trace_id)["http /api/v1/ai/emotion"]
        assert (here.parent_id, there.parent_id) == (client, here.span_id)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"endpoint": "192.0.2.30"}, "server.traces.endpoint: expected http(s)://host[:port][/path]"),
        ({"endpoint": "http://user:pass@192.0.2.30"}, "server.traces.endpoint: expected http(s)://host"),
        ({"endpoint": "http://192.0.2.30/v1/traces"}, "server.traces.endpoint: expected the collector's"),
        ({"share": "2"}, "server.traces.share"),
    ],
)
def test_mistakes_in_the_settings_are_named(given: dict[str, str], message: str) -> None:
    variables = {f"SERVER__TRACES__{key.upper()}": value for key, value in given.items()}
    with pytest.raises(SettingsError) as error:
        load(None, variables)
    assert message in str(error.value).replace(" (from SERVER__TRACES__ENDPOINT)", "")


def test_without_the_extra_the_service_names_it_and_does_not_start(tmp_path: Path) -> None:
    # As where the package is not installed: its import fails.
    script = "import sys; sys.modules['opentelemetry'] = None\n"
    script += "from inference_service.__main__ import main; sys.exit(main())"
    with_traces = {**os.environ, "SERVER__TRACES__ENDPOINT": "http://192.0.2.30:4318"}
    command = [sys.executable, "-c", script, "--check"]
    refused = subprocess.run(command, env=with_traces, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "server.traces.endpoint: traces need OpenTelemetry" in refused.stderr
    assert "gpu-inference-fleet[service,otel]" in refused.stderr
    assert subprocess.run(command, capture_output=True).returncode == 0, "without traces nothing is missing"


@pytest.mark.fast
def test_without_traces_nothing_of_opentelemetry_is_loaded() -> None:
    script = "import sys, inference_service.worker; print('opentelemetry' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"


@pytest.mark.fast
def test_outside_of_a_traced_request_there_is_no_trace(settings: Callable[..., Settings]) -> None:
    tracing.start(settings())
    with tracing.request("http", Answer(), "one", {}.get) as trace, tracing.span("queue") as span:
        found: list[Any] = [trace, span, tracing.trace_id(), tracing.headers()]
    assert found == [None, None, None, {}]
