"""What the doctor advises for images that are named by tags."""

import json
from typing import Any

import pytest

from infra.doctor.checks.base_images import _digest, named_by_tag, told
from infra.stack import parse

pytestmark = pytest.mark.fast

DIGEST = "sha256:" + "0123456789abcdef" * 4


def named(**more: Any) -> dict[str, str]:
    """On the only node's host, which is the gateway's, too."""
    given = {"nodes": ["ssh://root@192.0.2.1"], "gateway": {"host": "ssh://root@192.0.2.1"}, **more}
    stack = parse(given, "prod")
    return dict(named_by_tag(stack, stack.nodes[0].host))


def test_the_defaults_are_named_by_tags() -> None:
    found = named()
    assert found.keys() == {"triton.image", "service.build.args.BASE_IMAGE", "gateway.image"} or (
        found.keys() == {"triton.build.args.BASE_IMAGE", "service.build.args.BASE_IMAGE", "gateway.image"}
    )
    assert found["service.build.args.BASE_IMAGE"].startswith("python:3.")
    assert found["gateway.image"].startswith("nginx:")


def test_images_with_a_digest_need_no_advice() -> None:
    assert (
        named(
            triton={"image": f"registry.example.com/triton:1@{DIGEST}"},
            service={"build": {"args": {"BASE_IMAGE": f"python:3.11-slim-bookworm@{DIGEST}"}}},
            gateway={"host": "ssh://root@192.0.2.1", "image": f"nginx:1.28@{DIGEST}"},
        )
        == {}
    )


def test_an_image_of_another_host_is_not_this_hosts() -> None:
    assert "gateway.image" not in named(gateway={"host": "ssh://root@192.0.2.9"})


def test_the_advice_is_the_key_with_the_digest_that_the_host_has() -> None:
    line = json.dumps([f"registry.example.com/nginx@{DIGEST}"])
    assert _digest(line) == DIGEST
    assert _digest("[]") is None
    assert _digest("") is None
    outcome = told({"gateway.image": "nginx:1.28", "triton.image": "triton:1"}, {"nginx:1.28": DIGEST})
    assert f"gpu-inference:gateway.image: nginx:1.28@{DIGEST};" in outcome.remedy
    assert "gpu-inference:triton.image: triton:1@sha256:… (`docker buildx imagetools" in outcome.remedy
