"""A real Triton serves the new versions of models, and all that it served before if it refuses one."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.connection import Connection, RemoteError
from infra.models.files import versions
from infra.steps import models as model_sync
from tests.triton_server import triton_server

CONFIG = """
name: "{model}"
backend: "python"
input [{{ name: "x" data_type: TYPE_INT32 dims: [1] }}]
output [{{ name: "y" data_type: TYPE_INT32 dims: [1] }}]
instance_group [{{ kind: KIND_CPU }}]
"""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor("y", np.array([{number}], np.int32))]) for _ in requests]
"""
BROKEN = -1
# The part of the service's container that the switch needs: its Python, on Triton's network.
DOCKER = """
case "$1" in
  ps) echo triton; echo service;;
  exec)
    code=$(printf %s "$5" | sed s/triton:8000/127.0.0.1:$TRITON_PORT/)
    shift 5
    {python} -c "$code" "$@";;
esac
"""


class Node:
    """A node's models here and on its host, and its Triton."""

    def __init__(self, source: Path, root: Path) -> None:
        self.source, self.root = source, root
        self.port = 0

    def deploy(self, **models: int) -> None:
        """Deploys models that answer these numbers, and no others; `BROKEN` does not load."""
        here = Connection("unix:///nowhere.sock")
        root = str(self.root)
        digests = {}
        for model, number in models.items():
            folder = self.source / f"{model}-{number}"
            (folder / model / "1").mkdir(parents=True, exist_ok=True)
            (folder / model / "config.pbtxt").write_text(CONFIG.format(model=model))
            code = "this is no Python" if number == BROKEN else MODEL.format(number=number)
            (folder / model / "1" / "model.py").write_text(code)
            digests[model] = versions(folder)[model]
            copied = model_sync.Copy(
                connection=here,
                root=root,
                source=str(folder / model),
                model=model,
                version=digests[model],
            )
            model_sync.copy(copied)
        in_use = model_sync.InUse(
            connection=here, root=root, node="gpu-1", models=digests, service="service", triton="triton"
        )
        model_sync.activate(in_use)

    def ask(self, path: str, content: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v2/{path}", data=json.dumps(content).encode()
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def served(self) -> dict[str, int]:
        """What each model answers that Triton has, by name."""
        asked = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [0]}]}
        index = self.ask("repository/index", {"ready": False})
        names = [each["name"] for each in index if each.get("reason") != "unloaded" and "state" in each]
        return {
            name: self.ask(f"models/{name}/infer", asked)["outputs"][0]["data"][0] for name in sorted(names)
        }

    def linked(self) -> dict[str, str]:
        return {path.name: str(path.readlink()) for path in (self.root / "repository").iterdir()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node with a Triton and a double of Docker that runs the service's part in this environment."""
    folder = tmp_path_factory.mktemp("reload")
    docker = folder / "bin" / "docker"
    (folder / "triton").mkdir()
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\n{DOCKER.format(python=sys.executable)}")
    docker.chmod(0o755)
    node = Node(folder / "models", folder / "host")
    (node.root / "repository").mkdir(parents=True)
    with (
        triton_server(folder / "triton", models=[], model_repository=node.root / "repository") as ports,
        pytest.MonkeyPatch.context() as patch,
    ):
        node.port = ports.http
        patch.setenv("TRITON_PORT", str(ports.http))
        patch.setenv("PATH", f"{docker.parent}{os.pathsep}{os.environ['PATH']}")
        yield node


@pytest.fixture
def node(running: Node) -> Node:
    """The node, which serves a=1, b=1 and gone=1."""
    running.deploy(a=1, b=1, gone=1)
    assert running.served() == {"a": 1, "b": 1, "gone": 1}
    return running


def test_triton_takes_changed_and_new_models_and_unloads_those_that_are_gone(node: Node) -> None:
    node.deploy(a=2, b=1, new=1)
    assert node.served() == {"a": 2, "b": 1, "new": 1}
    node.deploy(a=1, b=1, new=1)
    assert node.served() == {"a": 1, "b": 1, "new": 1}, "back to a version that it had before"


@pytest.mark.parametrize("refused", ["b", "new"])
def test_a_refused_model_leaves_triton_with_exactly_what_it_served(node: Node, refused: str) -> None:
    links = node.linked()
    models = {"a": 2, "added": 1, "b": 1} | {refused: BROKEN}
    with pytest.raises(RemoteError, match=f"node gpu-1: {refused}: "):
        node.deploy(**models)
    assert node.served() == {"a": 1, "b": 1, "gone": 1}
    assert node.linked() == links
    node.deploy(a=2, b=3)
    assert node.served() == {"a": 2, "b": 3}, "the next update is none the worse for it"
