"""Names and ports are written once in the product's code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.paths import PROJECT

pytestmark = pytest.mark.fast


def sources() -> Iterator[Path]:
    for folder in ("infra", "inference_service"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            if path.parent.name != "generated":
                yield path


def holding(pattern: str) -> list[str]:
    """The files of the product's code in which the pattern occurs."""
    return [
        str(path.relative_to(PROJECT)) for path in sources() if re.search(pattern, path.read_text("utf-8"))
    ]


def test_tritons_arguments_are_written_in_one_file() -> None:
    assert holding(r"--(model|load|exit|log|http|grpc|metrics|backend|disable|strict)-[a-z-]+=") == [
        "infra/triton_arguments.py"
    ]


def test_tritons_http_port_is_written_in_one_file() -> None:
    """The same number is the sample rate of telephony."""
    files = [file for file in holding(r"\b8000\b") if not file.startswith("inference_service/audio")]
    assert files == ["inference_service/addresses.py"]


@pytest.mark.parametrize("port", [8001, 8002, 8800, 9800, 19001, 8080, 9080])
def test_a_port_is_written_in_one_file(port: int) -> None:
    assert holding(rf"\b{port}\b") == ["inference_service/addresses.py"]


def test_names_that_begin_with_the_stacks_are_made_in_one_file() -> None:
    assert holding(r"\{[\w.]*(stack(\.name)?|prefix)\}-") == ["infra/names.py"]


@pytest.mark.parametrize(
    "text",
    [
        "/etc/gpu-inference",
        "older-nginx",
        r"ai_inference_service\.servers[.*{]+[a-z]+[}.]*conf\"",
        "# The nodes of the stack",
        r"\"/models\"",
        r"ai-inference-service\.yaml\"",
        r"remote_dir\)? ?[/}]",
        r"\"gpu-inference\.stack",
    ],
)
def test_a_folder_or_a_file_on_a_host_is_named_in_one_file(text: str) -> None:
    assert [path for path in holding(text) if not path.startswith("infra/stack/")] == ["infra/names.py"]
