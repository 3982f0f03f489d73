"""A page of another origin uses the API from a real browser where its origin is listed, and not elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from infra.gateway.render import Site, UpstreamServer
from tests.gateway import nginx
from tests.gateway.service_node import service_nodes
from tests.ports import free_port
from tests.service.streams import tone
from tests.service.test_http_routes import wav

KEY = "first-key.0123"

# What a page's program does. Each returns what it saw, or the browser's error.
ASK = """async ([url, key, body]) => {
    try {
        const answer = await fetch(url, {
            method: "POST",
            headers: {...(key && {Authorization: `Bearer ${key}`}), "Content-Type": "application/json"},
            body: JSON.stringify(body),
        });
        return {
            status: answer.status,
            answer: await answer.json(),
            request: answer.headers.get("X-Request-ID"),
            later: answer.headers.get("Retry-After"),
        };
    } catch (error) { return {error: String(error)}; }
}"""
EVENTS = """async ([url, key, recording]) => {
    const form = new FormData();
    form.append("file", new Blob([Uint8Array.from(atob(recording), (c) => c.charCodeAt(0))]), "speech.wav");
    form.append("model", "whisper-1");
    form.append("stream", "true");
    const headers = {Authorization: `Bearer ${key}`};
    try {
        const answer = await fetch(url, {method: "POST", headers, body: form});
        return {type: answer.headers.get("Content-Type"), text: await answer.text()};
    } catch (error) { return {error: String(error)}; }
}"""
LISTEN = """([url, key]) => new Promise((resolve) => {
    const socket = new WebSocket(url, ["ai-stream", `api-key.${key}`]);
    const heard = [];
    socket.onopen = () => {
        socket.send(JSON.stringify({sample_rate: 16000}));
        socket.send(new ArrayBuffer(32000));
        socket.send('{"type": "end"}');
    };
    socket.onmessage = (message) => heard.push(JSON.parse(message.data).type);
    socket.onclose = (close) => resolve({code: close.code, heard});
})"""


@pytest.fixture(scope="module")
def gateways(other_origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Site]]:
    """`gateways("listed")` lists the page's origin, `gateways("unlisted")` another one."""
    with ExitStack() as stack:
        sites: dict[str, Site] = {}
        for name, origin in (("listed", other_origin), ("unlisted", "https://app.example.com")):
            folder = tmp_path_factory.mktemp(name)
            settings = {"SERVER__API_KEYS": KEY, "SERVER__CORS_ORIGINS": origin}
            [node] = stack.enter_context(service_nodes(1, folder, **settings))
            sites[name] = stack.enter_context(nginx.running(_site(node.upstream, origin), folder))
        yield sites.__getitem__


def _site(server: UpstreamServer, origin: str) -> Site:
    ports = {"http": free_port(), "grpc": free_port()}
    return Site((server,), **ports, api_keys=(KEY,), cors_origins=(origin,), rate_limit=None)


@pytest.fixture
def listed(gateways: Callable[[str], Site]) -> str:
    return f"127.0.0.1:{gateways('listed').http}"


@pytest.fixture
def unlisted(gateways: Callable[[str], Site]) -> str:
    return f"127.0.0.1:{gateways('unlisted').http}"


def ask(page: Page, address: str, key: str | None = KEY) -> dict[str, Any]:
    seen: dict[str, Any] = page.evaluate(ASK, [f"http://{address}/api/v1/ai/emotion", key, {"text": "hello"}])
    return seen


def test_a_listed_page_gets_answers_event_streams_and_live_results(page: Page, listed: str) -> None:
    seen = ask(page, listed)
    assert (seen["status"], seen["answer"]["data"]["emotion"]) == (200, "happy")
    assert seen["request"] == seen["answer"]["request_id"]

    recording = base64.b64encode(wav(tone(1.0))).decode()
    events = page.evaluate(EVENTS, [f"http://{listed}/v1/audio/transcriptions", KEY, recording])
    assert events["type"].startswith("text/event-stream")
    assert "transcript.text.done" in events["text"]

    live = page.evaluate(LISTEN, [f"ws://{listed}/api/v1/ai/stream", KEY])
    assert live == {"code": 1000, "heard": ["ready", "result", "end"]}


def test_a_listed_page_reads_why_it_is_refused(page: Page, listed: str, tmp_path: Path) -> None:
    seen = ask(page, listed, key=None)
    assert (seen["status"], seen["answer"]["message"]) == (401, "missing or wrong API key")

    no_node = _site(UpstreamServer("gpu-1", "127.0.0.1", free_port(), free_port()), page.evaluate("origin"))
    with nginx.running(no_node, tmp_path) as site:
        seen = ask(page, f"127.0.0.1:{site.http}")
    assert (seen["status"], seen["answer"]["message"]) == (503, "no node can take the request now")
    assert seen["later"] == "2"


def test_a_page_that_is_not_listed_gets_nothing(page: Page, unlisted: str) -> None:
    assert ask(page, unlisted) == {"error": "TypeError: Failed to fetch"}
    live = page.evaluate(LISTEN, [f"ws://{unlisted}/api/v1/ai/stream", KEY])
    assert live == {"code": 1006, "heard": []}


def test_a_page_of_the_gateways_own_needs_no_list(page: Page, unlisted: str) -> None:
    page.goto(f"http://{unlisted}/demo")
    assert ask(page, unlisted)["status"] == 200
    live = page.evaluate(LISTEN, [f"ws://{unlisted}/api/v1/ai/stream", KEY])
    assert live == {"code": 1000, "heard": ["ready", "result", "end"]}
