"""The package works from a wheel, outside the checkout: it contains templates, Dockerfiles and models."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.gateway.render import Site, render_site
from infra.image_references import content_tag
from infra.models.files import versions
from infra.paths import PACKAGE
from infra.stack import Service, Triton

SOURCES = (
    *("pyproject.toml", "README.md", "LICENSE"),
    *(
        "docker",
        "examples",
        "infra",
        "inference_service",
        "model_repository",
        "nginx",
        "recordings",
        "requirements",
    ),
    "triton_backends",
)

PROGRAM = """
import json, sys
import pulumi
from pulumi.runtime.mocks import Mocks, set_mocks

import infra
from infra.embedded.triton import PYTHON_BASED
from infra.gateway.render import Site, render_site
from infra.program.fleet import Fleet, FleetArgs
from infra.stack import parse

class Engine(Mocks):
    def new_resource(self, args):
        return args.name + "-id", args.inputs
    def call(self, args):
        return {}

set_mocks(Engine(), project="gpu-inference", stack="prod", preview=True)
stack = parse(json.load(sys.stdin), "prod")
outputs = {}

@pulumi.runtime.test
def run():
    outputs.update(Fleet("prod", FleetArgs(stack)).outputs)

run()
declared = []

class Example(Engine):
    def new_resource(self, args):
        declared.append(args.name)
        return super().new_resource(args)

set_mocks(Example(), project="one-node", stack="prod", preview=True)
pulumi.runtime.set_all_config({"one-node:host": "ssh://root@192.0.2.11"})

@pulumi.runtime.test
def example():
    exec(open(sys.argv[1]).read(), {"__name__": "__main__"})

example()
result = {"example": declared, "infra": infra.__path__[0], "outputs": outputs}
result["backends"] = [str(path.relative_to(PYTHON_BASED)) for path in PYTHON_BASED.glob("*/model.py")]
print(json.dumps({**result, "nginx": render_site(Site()).nginx_conf}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The Python of an environment with the wheel and this environment's dependencies, without the
    checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    leave_out = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        path = PACKAGE / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=leave_out)
        else:
            shutil.copy(path, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run(
        [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder), str(source)],
        check=True,
    )
    shutil.rmtree(source)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    wheel = next(folder.glob("*.whl"))
    subprocess.run(
        [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True
    )
    site_packages = next((environment / "lib").glob("python*/site-packages"))
    # Python ignores .pth files in a folder named by one, so it does not see the checkout's editable install.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    yield python


@pytest.fixture(scope="module")
def result(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The output of the program in a folder that is not a Pulumi project."""
    stack = {"nodes": ["ssh://root@192.0.2.11"], "models": {"source": "sync"}, "triton": {"build": True}}
    done = subprocess.run(
        [str(installed), "-P", "-c", PROGRAM, str(PACKAGE / "examples" / "one-node" / "__main__.py")],
        input=json.dumps(stack),
        cwd=tmp_path_factory.mktemp("elsewhere"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_installed_package_is_not_the_checkout(installed: Path, result: dict[str, Any]) -> None:
    assert Path(result["infra"]).is_relative_to(installed.parents[1])


def test_the_example_runs_with_the_installed_package(result: dict[str, Any]) -> None:
    assert {"speech", "speech-service@192.0.2.11", "entrance@192.0.2.11"} <= set(result["example"])


def test_the_installed_package_renders_the_same_gateway(result: dict[str, Any]) -> None:
    assert result["nginx"] == render_site(Site()).nginx_conf


def test_the_installed_package_builds_the_same_images_and_copies_the_same_models(
    result: dict[str, Any],
) -> None:
    for part, source in (
        ("service", Service().source),
        ("triton", Triton.model_validate({"build": True}).source),
    ):
        assert result["outputs"]["images"][part].endswith(f":{content_tag(source)}")  # type: ignore[arg-type]
    assert list(result["outputs"]["models"].values()) == [versions(PACKAGE / "model_repository")]


def test_the_installed_package_has_the_backends_of_the_embedded_triton(result: dict[str, Any]) -> None:
    assert result["backends"] == ["onnxruntime/model.py"]
