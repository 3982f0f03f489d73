"""All HTTP routes have answers of the same shape on an Edge-LLM node and on a Triton node; unsupported tasks
are 501."""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from inference_service.app import create_app
from inference_service.audio import Audio
from inference_service.engine import Engine
from inference_service.runtimes.base import Call, Runtime
from inference_service.runtimes.edge_llm import EdgeLlmRuntime, pool
from inference_service.settings import Settings
from inference_service.tasks import ModelKind, Task
from tests.doubles.unit_manager import UnitManager
from tests.service.conftest import DoubleRuntime, settings_in


def recording() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(range(256)) * 20)
    return file.getvalue()


def openai_form(response_format: str) -> dict[str, Any]:
    return {
        "data": {"model": "whisper-1", "response_format": response_format},
        "files": {"file": recording()},
    }


AUDIO = base64.b64encode(recording()).decode()
TEXT = base64.b64encode(b"what a day").decode()
BASE = "/api/v1/ai"
ROUTES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "health": ("GET", f"{BASE}/health", {}),
    "info": ("GET", f"{BASE}/info", {}),
    "asr": ("POST", f"{BASE}/asr", {"json": {"audio_data": AUDIO, "meeting_id": 7}}),
    "asr of the body": (
        "POST",
        f"{BASE}/asr",
        {"content": recording(), "headers": {"Content-Type": "audio/wav"}},
    ),
    "emotion of text": ("POST", f"{BASE}/emotion", {"json": {"text": "what a {day}", "meeting_id": "m"}}),
    "emotion of audio": ("POST", f"{BASE}/emotion", {"json": {"audio_data": AUDIO}}),
    "synthesis": ("POST", f"{BASE}/synthesis", {"json": {"audio_data": AUDIO}}),
    "setup": ("POST", f"{BASE}/setup", {"json": {"meeting_id": 7}}),
    "setup of nothing": ("POST", f"{BASE}/setup", {}),
    "analyze speech": (
        "POST",
        f"{BASE}/analyze",
        {"json": {"task_type": "asr", "input_data": AUDIO, "params": {"format": "wav"}}},
    ),
    "analyze text": ("POST", f"{BASE}/analyze", {"json": {"task_type": "emotion", "input_data": TEXT}}),
    "batch": (
        "POST",
        f"{BASE}/batch",
        {
            "json": {
                "tasks": [
                    {"task_id": "1", "type": "asr", "data": {"audio_data": AUDIO}},
                    {"task_id": "2", "type": "emotion", "data": {"text": "fine"}},
                    {"task_id": "3", "type": "synthesis", "data": {"audio_data": AUDIO}},
                    {"task_id": "4", "type": "asr", "data": {"audio_data": "%"}},
                ]
            }
        },
    ),
    "bad audio": ("POST", f"{BASE}/asr", {"json": {"audio_data": "%"}}),
    "OpenAI's models": ("GET", "/v1/models", {}),
    "OpenAI's transcription": ("POST", "/v1/audio/transcriptions", openai_form("json")),
}
#: Requests that need the times of words, which units do not report.
TIMED: dict[str, tuple[str, str, dict[str, Any]]] = {
    format: ("POST", "/v1/audio/transcriptions", openai_form(format))
    for format in ("verbose_json", "srt", "vtt")
}


def shape(value: object, name: str = "") -> object:
    """A JSON value with types in place of its leaves. Objects of scores are alike, whatever their labels, and
    so is what models say of themselves, whether they say it or not."""
    if isinstance(value, dict):
        if name == "emotions":
            return {"label": {shape(score) for score in value.values()}}
        if name == "model_cards":
            return {role: set(card) for role, card in value.items()}
        return {key: shape(inner, key) for key, inner in value.items() if key not in ("kind", "caveat")}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


async def answers(
    engine: Engine, routes: dict[str, tuple[str, str, dict[str, Any]]] = ROUTES
) -> dict[str, tuple[int, object]]:
    """Status and shape of the routes' answers."""
    await engine.start()
    transport = httpx2.ASGITransport(app=create_app(engine))
    try:
        async with httpx2.AsyncClient(transport=transport, base_url="http://node.example.com") as client:
            seen = {}
            for name, (method, path, body) in routes.items():
                response = await client.request(method, path, **body)
                seen[name] = (response.status_code, shape(response.json()))
            return seen
    finally:
        await engine.close()


def node(directory: Path, runtime: type | Runtime, **environment: str) -> Engine:
    settings: Settings = settings_in(directory, **environment)
    return Engine(settings, runtime(settings) if isinstance(runtime, type) else runtime)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answers of an Edge-LLM node and a Triton node on every route."""

    async def ask() -> tuple[dict[str, Any], dict[str, Any]]:
        async with UnitManager() as manager:
            edge_llm = node(
                tmp_path_factory.mktemp("edge-llm"),
                EdgeLlmRuntime,
                AI__RUNTIME__BACKEND="edge-llm",
                AI__RUNTIME__EDGE_LLM__ENDPOINT=f"127.0.0.1:{manager.port}",
                AI__REQUEST__AUDIO_STREAM_CHUNK_DELAY_MS="0",
                **{f"AI__MODELS__{model}__MODEL_PATH": "/m" for model in ("ASR", "EMOTION", "SYNTHESIS")},
            )
            triton = node(tmp_path_factory.mktemp("triton"), DoubleRuntime())
            return await answers(edge_llm), await answers(triton)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "CLOSE_LINGER", 0.05)
        return asyncio.run(ask())


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_gives_the_same_shape_on_both_kinds_of_node(
    nodes: tuple[dict[str, Any], dict[str, Any]], route: str
) -> None:
    edge_llm, triton = nodes
    assert edge_llm[route] == triton[route]
    assert edge_llm[route][0] == (400 if route == "bad audio" else 200)


async def test_an_edge_llm_node_says_what_is_known_of_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLOSE_LINGER", 0.05)

    async with UnitManager() as manager:
        engine = node(
            tmp_path,
            EdgeLlmRuntime,
            AI__RUNTIME__BACKEND="edge-llm",
            AI__RUNTIME__EDGE_LLM__ENDPOINT=f"127.0.0.1:{manager.port}",
            AI__REQUEST__AUDIO_STREAM_CHUNK_DELAY_MS="0",
            AI__MODELS__ALLOW_RULES="false",
        )
        await engine.start()
        try:
            described = await engine.offer.describe()
            assert {card.kind for card in described.values()} == {ModelKind.UNKNOWN}
            felt = await engine.run(
                Task.EMOTION, audio=Audio(np.zeros(160, np.int16), 16000), call=Call("test")
            )
        finally:
            await engine.close()
    assert felt.kind is None
    assert felt.caveat == "the emotion of the words that were recognised; the voice itself is not heard"


async def test_what_an_edge_llm_node_cannot_do_is_501(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CLOSE_LINGER", 0.05)

    async with UnitManager() as manager:
        engine = node(
            tmp_path,
            EdgeLlmRuntime,
            AI__RUNTIME__BACKEND="edge-llm",
            AI__RUNTIME__EDGE_LLM__ENDPOINT=f"127.0.0.1:{manager.port}",
            AI__MODELS__SYNTHESIS__ENABLED="false",
        )
        seen = await answers(engine, ROUTES | TIMED)
        for format in TIMED:
            assert seen[format] == (
                501,
                shape({"error": {"message": "", "type": "", "param": None, "code": None}}),
            )
        assert seen["synthesis"][0] == 501
        assert seen["health"][0] == 200
        assert "synthesis" not in {frame["data"]["model"] for frame in manager.actions("setup")}
