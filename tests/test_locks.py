"""The locks in requirements/ fit what they are made from. No index is asked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

from infra.paths import PROJECT

pytestmark = pytest.mark.fast

LOCKS = (
    "clients",
    "convert",
    "dev",
    "docs",
    "gpu",
    "models",
    "models-embedded",
    "service",
    "service-otel",
    "weights",
)

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+).*?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M)


def lock(name: str) -> str:
    return (PROJECT / "requirements" / f"{name}.txt").read_text()


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(name: str) -> dict[str, set[str]]:
    """Versions by package; a package can have one for each version of Python."""
    versions: dict[str, set[str]] = {}
    for package, version, _ in _PINNED.findall(lock(name)):
        versions.setdefault(normalized(package), set()).add(version)
    return versions


def extra(name: str) -> Iterator[Requirement]:
    """The requirements of an extra of the project, with those of the extras that it names."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for requirement in map(Requirement, [*project["dependencies"], *project["optional-dependencies"][name]]):
        if requirement.name == project["name"]:
            for inner in requirement.extras:
                yield from extra(inner)
        else:
            yield requirement


def file(name: str, folder: str = "model_repository") -> Iterator[Requirement]:
    """The requirements in a file of the folder, with those of the files that it names."""
    for line in (PROJECT / folder / name).read_text().splitlines():
        if line.startswith("-r "):
            yield from file(line.removeprefix("-r "), folder)
        elif line and not line.startswith("#"):
            yield Requirement(line.partition("  #")[0])


INPUTS = {
    "clients": lambda: file("requirements.txt", "tests/clients"),
    "convert": lambda: (
        each for name in ("service", "otel", "infra", "embedded", "convert", "dev") for each in extra(name)
    ),
    "docs": lambda: file("requirements.txt", "docs"),
    "service": lambda: extra("service"),
    "service-otel": lambda: (each for name in ("service", "otel") for each in extra(name)),
    "dev": lambda: (each for name in ("service", "otel", "infra", "embedded", "dev") for each in extra(name)),
    "models": lambda: file("requirements.txt"),
    "models-embedded": lambda: file("requirements-embedded.txt"),
    "gpu": lambda: file("requirements-gpu.txt"),
    "weights": lambda: file("requirements-weights.txt"),
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_fits_its_requirements(name: str) -> None:
    versions = pinned(name)
    for requirement in INPUTS[name]():
        locked = versions.get(normalized(requirement.name), set())
        assert locked, f"{requirement.name}: run make locks"
        assert all(requirement.specifier.contains(version) for version in locked), requirement


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_of_a_lock_has_hashes_and_no_index_is_named(name: str) -> None:
    text = lock(name)
    packages = [line for line in text.splitlines() if line and line[0].isalnum()]
    assert len(packages) == len(_PINNED.findall(text)) > 0
    assert "://" not in text
    assert "index" not in "".join(line for line in text.splitlines() if line.startswith("-"))


@pytest.mark.parametrize("name", ["service", "service-otel"])
def test_the_service_image_gets_versions_that_the_tests_ran_with(name: str) -> None:
    tested = pinned("dev")
    assert all(tested[package] == versions for package, versions in pinned(name).items())


def test_traces_add_packages_to_the_service_image_and_change_none() -> None:
    assert pinned("service").items() <= pinned("service-otel").items()


def test_the_weights_in_tritons_image_are_those_of_the_tests() -> None:
    tested = {
        package: (version, hashes) for package, version, hashes in _PINNED.findall(lock("models-embedded"))
    }
    for package, version, hashes in _PINNED.findall(lock("weights")):
        assert tested[package] == (version, hashes)
