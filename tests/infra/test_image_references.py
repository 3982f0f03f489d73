"""An image's tag is the digest of its build context, as Docker would receive it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.image_references import ContextError, content_tag, context_files
from infra.paths import PROJECT
from infra.stack import Build, Service, Triton

pytestmark = pytest.mark.fast


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "main.py").write_text("one")
    (tmp_path / "secret.env").write_text("one")
    return tmp_path


def tag(context: Path, **args: str) -> str:
    return content_tag(Build(context=str(context), args=args))


def names(context: Path) -> list[str]:
    return [name for name, _ in context_files(context, context / "Dockerfile")]


def test_the_same_content_has_the_same_tag_whatever_its_times(context: Path) -> None:
    before = tag(context)
    (context / "app" / "main.py").touch()
    assert tag(context) == before


@pytest.mark.parametrize("change", ["content", "name", "mode", "Dockerfile", "argument"])
def test_whatever_docker_would_build_differently_changes_the_tag(context: Path, change: str) -> None:
    before = tag(context)
    main = context / "app" / "main.py"
    match change:
        case "content":
            main.write_text("two")
        case "name":
            main.rename(main.with_name("other.py"))
        case "mode":
            main.chmod(0o755)
        case "Dockerfile":
            (context / "Dockerfile").write_text("FROM scratch\n")
    assert tag(context, **({"BASE_IMAGE": "x"} if change == "argument" else {})) != before


def test_what_dockerignore_leaves_out_does_not_count(context: Path) -> None:
    (context / ".dockerignore").write_text("# private\n*.env\n**/__pycache__\n")
    (context / "app" / "__pycache__").mkdir()
    (context / "app" / "__pycache__" / "main.pyc").write_text("x")
    before = tag(context)
    (context / "secret.env").write_text("two")
    (context / "app" / "__pycache__" / "main.pyc").write_text("y")
    assert tag(context) == before
    assert names(context) == [".dockerignore", "Dockerfile", "app/main.py"]


def test_a_dockerfiles_own_dockerignore_comes_first_and_exceptions_win(context: Path) -> None:
    (context / ".dockerignore").write_text("app\n")
    (context / "Dockerfile.dockerignore").write_text("*\n!app\n**/*.log\n")
    (context / "app" / "x.log").write_text("x")
    assert names(context) == ["app/main.py"]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("*", []),  # in deeper folders too
        ("x.log", ["Dockerfile", "app/deep/x.log", "app/main.py"]),  # only at the root
        ("**/x.log/", ["Dockerfile", "app/main.py"]),  # a trailing slash matches files too
        ("app/*", ["Dockerfile", "x.log"]),
        ("*\n!app/deep", ["app/deep/x.log"]),
        ("*\n!**/main.py", ["app/main.py"]),
        ("App", ["Dockerfile", "app/deep/x.log", "app/main.py", "x.log"]),  # patterns are case-sensitive
    ],
)
def test_the_rules_are_read_as_docker_reads_them(context: Path, rules: str, left: list[str]) -> None:
    (context / "Dockerfile.dockerignore").write_text(f"{rules}\n**/*.dockerignore\n*.env\n")
    (context / "app" / "deep").mkdir()
    for folder in (context, context / "app" / "deep"):
        (folder / "x.log").write_text("x")
    assert names(context) == left


def test_a_context_that_is_missing_is_named(context: Path) -> None:
    for build in (Build(context="none"), Build(context=str(context), dockerfile="none.Dockerfile")):
        with pytest.raises(ContextError, match="none"):
            content_tag(build)


def test_the_service_image_is_made_of_the_service_alone() -> None:
    build = Service().source
    assert isinstance(build, Build)
    files = {name for name, _ in context_files(PROJECT, PROJECT / build.dockerfile)}
    locks = {name for name in files if name.startswith("requirements/")}
    assert locks == {"requirements/service.txt", "requirements/service-otel.txt"}
    assert {name.split("/")[0] for name in files - locks} == {"inference_service"}
    assert not any("__pycache__" in name for name in files)


def test_arguments_alone_are_for_the_projects_own_build() -> None:
    given = Triton.model_validate({"build": {"args": {"BASE_IMAGE": "local/triton"}}}).source
    assert isinstance(given, Build)
    assert (given.dockerfile, given.args) == ("docker/triton.Dockerfile", {"BASE_IMAGE": "local/triton"})
