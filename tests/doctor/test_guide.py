"""docs/doctor.md has every check and the messages of the service, so a message in a log can be found
there."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.doctor.advice import advice
from infra.doctor.plan import Plan
from infra.embedded.layout import Layout
from infra.paths import PROJECT
from infra.stack import parse

pytestmark = pytest.mark.fast

GUIDE = (PROJECT / "docs" / "doctor.md").read_text(encoding="utf-8")
SOURCES = "\n".join(path.read_text() for path in sorted((PROJECT / "inference_service").rglob("*.py")))

STACK = {
    "nodes": [
        {"name": "gpu-1", "host": "ssh://root@192.0.2.1"},
        {"name": "edge-1", "host": "ssh://root@192.0.2.2:2222", "runtime": "edge-llm"},
        {"name": "local", "host": "unix:///var/run/docker.sock"},
    ],
    "service": {"image": "registry.example.com/service:1"},
    "edgeLlm": {"unitManager": {"image": "unit-manager:1"}, "llmNode": {"image": "llm-node:1"}},
    "tls": {"nodes": True},
    "gateway": {
        "hosts": ["ssh://root@192.0.2.3", "ssh://root@192.0.2.4"],
        "virtualAddress": {"address": "192.0.2.100/24"},
        "tls": {"certificate": "/tls/a.pem", "key": "/tls/a.key"},
    },
}

# Messages of the service's log and of /api/v1/ai/health; each text also occurs in the service's code.
SAID = [
    "is not ready: ",
    "it is not in the model repository",
    "is not there; Triton has ",
    "has datatype ",
    "has shape ",
    ", which the service does not send",
    " labels for ",
    "cannot be reached: ",
    "has no llm node",
    "did not answer",
    "an API key is needed",
    "the API key is not one that is accepted here",
]


def names(tmp_path: Path) -> set[str]:
    folder = tmp_path / "sessions"
    folder.mkdir()
    checks = Plan(parse(STACK), folder, Layout(tmp_path / "state"), None).checks
    return {check.name for check in checks}


def test_every_check_is_in_the_guide(tmp_path: Path) -> None:
    for name in names(tmp_path):
        general = "… container" if name.endswith(" container") else name
        general = "upstream gpu-2" if name.startswith("upstream ") else general
        assert f"| `{general}` |" in GUIDE, name


@pytest.mark.parametrize("words", SAID)
def test_messages_of_the_service_can_be_found_in_the_guide(words: str) -> None:
    assert words in SOURCES, "the service says it otherwise now"
    assert words.strip(" ,") in GUIDE


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("edge-llm error (code -2): json format error", "ai.request.max_single_delta_len"),
        ("the unit manager at unit-manager:19001 has no llm node: it is not running", "start the llm node"),
        ("the unit manager at unit-manager:19001 cannot be reached: refused", "start the unit manager"),
        ("model asr is not ready: it is not in the model repository", "models.path"),
        ("model asr is not ready: no weights", "restart Triton"),
        ("model x is not ready: instance group x_0 has kind KIND_GPU but no GPUs are available", "KIND_AUTO"),
        ("model emotion is not ready: loading", "builds engines"),
        ("model emotion is not ready: unable to find backend library for backend 'tensorrt'", "triton.image"),
        ("model emotion is not ready: The engine plan file is not compatible", "TensorRT of Triton's image"),
        ("model emotion: input 'audio' has datatype INT16, expected FP32", "config.pbtxt"),
        ("Triton is not ready: refused (Triton at triton:9000)", "ai.runtime.triton.endpoint"),
        ("HTTP 401: the API key is not one that is accepted here", "GPU_INFERENCE_API_KEY"),
        ("task full", "max_sessions"),
    ],
)
def test_the_remedy_depends_on_the_message(message: str, remedy: str) -> None:
    assert remedy in advice(message, "nothing is known of it")


def test_an_unknown_message_gets_the_remedy_of_its_check() -> None:
    assert advice("something new", "look at the log") == "look at the log"
