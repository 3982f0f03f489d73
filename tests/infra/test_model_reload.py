"""A real Triton serves the new version of a model, and keeps the old one if it cannot load the new one."""

from __future__ import annotations

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from infra.connection import Connection, RemoteError
from infra.models.files import versions
from infra.steps import models as model_sync
from tests.infra.conftest import Double
from tests.triton_server import triton_server

CONFIG = """
name: "number"
backend: "python"
input [{ name: "x" data_type: TYPE_INT32 dims: [1] }]
output [{ name: "y" data_type: TYPE_INT32 dims: [1] }]
instance_group [{ kind: KIND_CPU }]
"""
MODEL = """
import numpy as np
import triton_python_backend_utils as pb
class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor("y", np.array([{number}], np.int32))]) for _ in requests]
"""
# The part of the service's container that the switch needs: its Python, on Triton's network.
DOCKER = """
case "$1" in
  ps) echo triton; echo service;;
  exec) {python} -c "$(printf %s "$6" | sed s/triton:8000/127.0.0.1:$TRITON_PORT/)";;
esac
"""


def answer(port: int) -> int:
    asked = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT32", "data": [0]}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/number/infer", data=json.dumps(asked).encode()
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return int(json.load(response)["outputs"][0]["data"][0])


def test_triton_takes_a_switched_model_and_keeps_the_old_one_when_the_new_one_does_not_load(
    tmp_path: Path, double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, root = tmp_path / "models", tmp_path / "host"
    code = source / "number" / "1" / "model.py"
    code.parent.mkdir(parents=True)
    (source / "number" / "config.pbtxt").write_text(CONFIG)
    here = Connection("unix:///nowhere.sock")

    def deploy(text: str) -> None:
        code.write_text(text)
        versions.cache_clear()
        version = versions(source)["number"]
        model_sync.copy(
            model_sync.Copy(
                connection=here,
                root=str(root),
                source=str(source / "number"),
                model="number",
                version=version,
            )
        )
        model_sync.activate(
            model_sync.InUse(
                connection=here,
                root=str(root),
                node="gpu-1",
                models={"number": version},
                service="service",
                triton="triton",
            )
        )

    double("docker", "")
    deploy(MODEL.format(number=1))
    triton = tmp_path / "triton"
    triton.mkdir()
    with triton_server(triton, models=["number"], model_repository=root / "repository") as ports:
        assert answer(ports.http) == 1
        (tmp_path / "doubles" / "docker").unlink()
        monkeypatch.setenv("TRITON_PORT", str(ports.http))
        double("docker", DOCKER.format(python=sys.executable))
        deploy(MODEL.format(number=2))
        assert answer(ports.http) == 2
        with pytest.raises(RemoteError, match="node gpu-1: number: "):
            deploy("this is no Python")
        assert answer(ports.http) == 2
        deploy(MODEL.format(number=1))
        assert answer(ports.http) == 1, "back to a version that it had before"
