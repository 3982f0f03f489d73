"""A trace goes on in a real Triton, which sends its own spans."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_service import tracing
from inference_service.engine import Engine
from inference_service.runtimes.base import Call
from inference_service.runtimes.triton import TritonRuntime
from inference_service.settings import Settings
from inference_service.tasks import TranscribeOptions
from infra.stack import parse
from infra.triton_arguments import trace_arguments, trace_environment
from tests.collector import Collector, Span, collector
from tests.service.small_triton import SmallTriton, write_models
from tests.service.test_triton_runtime import samples
from tests.triton_server import MODELS_VENV

pytestmark = pytest.mark.skipif(
    not (MODELS_VENV / "bin" / "python").exists(), reason="the models' environment is not there"
)

CLIENT = "00f067aa0ba902b7"


class Answer:
    route, status = "/asr", "200"


@pytest.fixture
def received() -> Iterator[Collector]:
    with collector() as running:
        yield running


async def transcribe(triton: SmallTriton, url: str, folder: Path, traceparent: str) -> None:
    """One traced request for one transcription."""
    settings = Settings.model_validate(
        {
            "ai": {"runtime": {"triton": {"endpoint": triton.address}}},
            "server": {"traces": {"endpoint": url, "share": 0}, "runtime_dir": folder / "run"},
        }
    )
    engine = Engine(settings, TritonRuntime(settings))
    await engine.start()
    tracing.start(settings)
    try:
        with tracing.request("http", Answer(), "one", {"traceparent": traceparent}.get):
            await engine.transcribe(samples(0.25), TranscribeOptions(), Call("one"))
    finally:
        tracing.stop()
        await engine.close()


async def test_tritons_spans_are_below_the_inference_that_asked_for_them(
    tmp_path: Path, received: Collector
) -> None:
    stack = parse({"nodes": ["embedded"], "traces": {"endpoint": received.url}})
    [node] = stack.nodes
    triton = SmallTriton(tmp_path, write_models(tmp_path / "models"), *trace_arguments(stack, node))
    triton.start()
    sampled, unsampled = "0af7651916cd43dd8448eb211c80319c", "1bf7651916cd43dd8448eb211c80319c"
    try:
        await transcribe(triton, received.url, tmp_path, f"00-{unsampled}-{CLIENT}-00")
        await transcribe(triton, received.url, tmp_path, f"00-{sampled}-{CLIENT}-01")

        def asr() -> list[Span]:
            return [each for each in received.spans if each.attributes.get("triton.request_id") == "one"]

        received.wait(lambda: {"compute", "asr", "InferRequest"} <= received.of(sampled).keys())
    finally:
        triton.stop()
    [model] = asr()
    [request] = [each for each in received.spans if each.span_id == model.parent_id]
    [compute] = [each for each in received.spans if each.parent_id == model.span_id]
    [inference] = received.of(sampled)["inference"]
    [server] = received.of(sampled)["http /asr"]
    assert (model.name, request.name, compute.name) == ("asr", "InferRequest", "compute")
    assert request.parent_id == inference.span_id
    assert inference.parent_id == server.span_id
    assert server.parent_id == CLIENT
    # Triton times on its own: its request may begin a moment before the call, which it waits for.
    assert server.begin <= inference.begin <= model.begin <= model.end <= inference.end <= server.end
    assert request.resource["service.name"] == "triton"
    assert request.resource["service.instance.id"] == node.name
    assert not [each for each in received.spans if each.trace_id != sampled], "nobody sampled the other"


async def test_a_collector_that_hangs_does_not_hold_tritons_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        stack = parse({"nodes": ["embedded"], "traces": {"endpoint": url}})
        for name, value in trace_environment(stack).items():
            monkeypatch.setenv(name, value)
        arguments = trace_arguments(stack, stack.nodes[0])
        triton = SmallTriton(tmp_path, write_models(tmp_path / "models"), *arguments)
        triton.start()
        try:
            await transcribe(triton, url, tmp_path, f"00-{'1' * 32}-{CLIENT}-01")
        finally:
            begun = time.monotonic()
            triton.stop()
        assert time.monotonic() - begun < 10  # OpenTelemetry's own limit of one delivery
