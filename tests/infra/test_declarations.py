"""What a step reads: typed, with a version, and also what a release before there were versions wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.connection import Connection
from infra.declaration import DeclarationError, from_json
from infra.gateway.configuration import Configuration, ContainerConfiguration, ExistingSite
from infra.paths import PROJECT
from infra.steps.models import Copy, InUse
from infra.steps.readiness import Readiness

pytestmark = pytest.mark.fast

HERE = Connection("unix:///nowhere.sock", ("-p", "22"))
COPY = Copy(connection=HERE, root="/r", source="m/asr", model="asr", version="1")
# As written at 03bca15.
HERE_0 = {"host": "unix:///nowhere.sock", "options": ["-p", "22"]}
IN_USE_0 = {
    "connection": HERE_0,
    "root": "/r",
    "models": {"asr": "1"},
    "service": "prod-one-service",
    "triton": None,
    "node": "one",
}
CONTAINER_0 = {
    "mode": "container",
    "connection": HERE_0,
    "folder": "/r/gateway",
    "container": "prod-gateway",
    "image": "nginx:1.28",
    "mounts": ["/etc/ssl/ai"],
    "revision": "0123",
    "files": {"nginx.conf": "events {}"},
}
EXISTING_0 = {
    "mode": "existing",
    "connection": HERE_0,
    "folder": "/r/gateway",
    "stack": "prod",
    "file": "/etc/nginx/conf.d/ai_inference_service.servers.prod.conf",
    "nginx": "nginx",
    "sets_aside": "/etc/nginx/conf.d/ai_inference_service.servers*.conf",
    "servers": "server 192.0.2.1:8800;",
}


def test_a_declaration_comes_back_as_it_was_written() -> None:
    ready = Readiness(
        node="one",
        connection=HERE,
        service="s",
        url="http://127.0.0.1/",
        containers=("a", "b"),
        timeout=5,
        avoided=6,
    )
    for declaration in (COPY, ready):
        assert from_json(declaration.to_json(), type(declaration)) == declaration
        assert json.loads(declaration.to_json())["schema_version"] == 1


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        (InUse, IN_USE_0, InUse),
        (Configuration, CONTAINER_0, ContainerConfiguration),
        (Configuration, EXISTING_0, ExistingSite),
    ],
)
def test_a_declaration_from_before_there_were_versions_is_read(
    kind: Any, written: dict[str, Any], expected: type
) -> None:
    declaration = from_json(json.dumps(written), kind)
    assert isinstance(declaration, expected)
    again = json.loads(declaration.to_json())
    assert again.pop("schema_version") == 1
    assert again.items() >= written.items()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"root": None}, "root"),
        ({"rot": "/r"}, "rot"),
        ({"connection": {"host": 5}}, "connection.host"),
        ({"schema_version": 2}, "a later release wrote version 2"),
        ({"schema_version": "1"}, "int"),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, Any], named: str) -> None:
    written = {**json.loads(COPY.to_json()), **change}
    with pytest.raises(DeclarationError, match=named):
        from_json(json.dumps(written), Copy)


def test_a_missing_key_is_named_by_the_step_and_without_a_traceback() -> None:
    written = {key: value for key, value in IN_USE_0.items() if key != "root"}
    done = subprocess.run(
        [sys.executable, "-m", "infra.steps.models", "remove"],
        input=json.dumps(written),
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 1
    assert done.stderr == "the declaration on standard input: Object missing required field `root`\n"


@pytest.mark.parametrize(
    ("module", "written", "folder"),
    [("infra.model_sync", IN_USE_0, "root"), ("infra.gateway.apply", CONTAINER_0, "folder")],
)
def test_a_state_from_before_there_were_versions_is_deleted(
    module: str, written: dict[str, Any], folder: str, tmp_path: Path
) -> None:
    target = tmp_path / "host" / "there"
    (target / "inner").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", module, "remove"],
        input=json.dumps({**written, folder: str(target)}),
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
    assert not target.exists()


@pytest.mark.parametrize("step", ["models", "gateway", "existing_site", "readiness"])
def test_a_step_starts_without_what_makes_it_slow(step: str) -> None:
    # Steps of a whole fleet start at once.
    heavy = "pulumi", "pydantic", "jinja2", "yaml", "infra.stack", "infra.program", "infra.embedded"
    script = f"import sys, infra.steps.{step}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, check=True
    )
    assert done.stdout == "[]\n"
