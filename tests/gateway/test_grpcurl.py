"""grpcurl, which knows the API from the reflection service alone, through the gateway and at a node."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.gateway.render import Site
from tests.gateway import nginx
from tests.gateway.service_node import service_nodes
from tests.ports import free_port
from tests.service.streams import pieces, tone

KEY = "first-key.0123"


@pytest.fixture(scope="module")
def grpcurl() -> str:
    """The installed program."""
    # `go install` puts it where only a login shell looks.
    program = shutil.which("grpcurl") or shutil.which("grpcurl", path=Path.home() / "go" / "bin")
    if program is None:
        pytest.skip("no grpcurl (go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4)")
    return program


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """`host:port` of a node with an API key, and of a gateway over it."""
    folder = tmp_path_factory.mktemp("grpcurl")
    with service_nodes(1, folder, SERVER__API_KEYS=KEY) as [node]:
        ports = {"http": free_port(), "grpc": free_port()}
        site = Site((node.upstream,), **ports, api_keys=(KEY,), rate_limit=None)
        with nginx.running(site, folder):
            yield {"node": node.upstream.grpc_address, "gateway": f"127.0.0.1:{site.grpc}"}


@pytest.fixture(params=["node", "gateway"])
def address(request: pytest.FixtureRequest, addresses: dict[str, str]) -> str:
    return addresses[request.param]


def run(*words: str, sent: object = None) -> subprocess.CompletedProcess[str]:
    """Runs grpcurl; `sent` is a list of messages."""
    messages = "" if sent is None else "\n".join(map(json.dumps, sent))  # type: ignore[call-overload]
    return subprocess.run(words, input=messages, capture_output=True, text=True, timeout=60)


def test_it_lists_and_describes_the_services(grpcurl: str, address: str) -> None:
    with_key = (grpcurl, "-plaintext", "-H", f"x-api-key: {KEY}", address)
    listed = run(*with_key, "list")
    assert {"grpc.AIService", "grpc.health.v1.Health"} <= set(listed.stdout.split()), listed.stderr
    assert "rpc StreamAudioProcessing ( stream .grpc.AudioChunk )" in run(*with_key, "describe").stdout


def test_it_calls_with_json(grpcurl: str, address: str) -> None:
    with_key = (grpcurl, "-plaintext", "-H", f"authorization: Bearer {KEY}", "-d", "@", address)
    recording = {"audio_data": base64.b64encode(tone(1.0)).decode(), "format": "pcm"}
    answer = run(*with_key, "grpc.AIService/ProcessAudioData", sent=[recording])
    assert json.loads(answer.stdout)["status"] == "ok", answer.stderr

    chunks = [
        {"data": base64.b64encode(part).decode(), "sequence": number, "sample_rate": 16000}
        for number, part in enumerate(pieces(tone(1.0), 16000), 1)
    ]
    answer = run(*with_key, "grpc.AIService/StreamAudioProcessing", sent=chunks)
    result = json.loads(answer.stdout)
    assert (result["is_final"], json.loads(result["result_data"])["duration_ms"]) == (True, 1000)


#: What grpcurl must know of the health service where it may not ask the server.
HEALTH = """
syntax = "proto3";
package grpc.health.v1;
message HealthCheckRequest { string service = 1; }
message HealthCheckResponse { enum ServingStatus { UNKNOWN = 0; SERVING = 1; } ServingStatus status = 1; }
service Health { rpc Check(HealthCheckRequest) returns (HealthCheckResponse); }
"""


def test_without_a_key_only_health_answers(grpcurl: str, address: str, tmp_path: Path) -> None:
    refused = run(grpcurl, "-plaintext", address, "list")
    assert refused.returncode != 0
    assert "API key" in refused.stderr

    (tmp_path / "health.proto").write_text(HEALTH)
    known = ("-import-path", str(tmp_path), "-proto", "health.proto")
    answer = run(grpcurl, "-plaintext", *known, address, "grpc.health.v1.Health/Check")
    assert json.loads(answer.stdout) == {"status": "SERVING"}, answer.stderr
