"""The layers of the product's code: imports run one way, and the folders say when code runs.

docs/architecture.md shows the same layers as a picture.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).resolve().parents[1]

#: Each row may import the rows above it. Parts of one row stand side by side and do not import each other.
INFRA = (
    ("", "names", "paths", "digest", "health_route", "node_probe"),
    ("service_settings", "certificates", "models.pbtxt", "runtime_health"),
    ("stack",),
    (
        "connection",
        "declaration",
        "models.files",
        "models.records",
        "models.backends",
        "image_references",
        "triton_arguments",
    ),
    ("gateway", "models.cards", "node_health", "docker_engine"),
    ("monitoring",),
    ("kubernetes",),
    ("steps", "embedded", "update"),
    ("program", "doctor"),
    ("package", "models"),
    ("cli",),
    ("model_sync", "gateway.apply", "__main__"),
)
SERVICE = (
    (
        "",
        "tasks",
        "errors",
        "addresses",
        "audio_formats",
        "languages",
        "origins",
        "pages",
        "grpc_api.generated",
    ),
    ("model_cards",),
    ("settings", "audio", "request_fields", "word_times", "memory", "hops"),
    ("tracing",),
    ("logs", "keys", "metrics", "results", "runtime_metrics", "tls", "windows"),
    ("admission", "budget", "runtimes"),
    ("offer", "readiness"),
    ("engine", "diagnosis"),
    ("streaming", "intake"),
    ("http", "grpc_api", "client", "console"),
    ("app",),
    ("supervisor", "healthcheck"),
    ("worker",),
    ("__main__",),
)
#: Only these declare resources or run inside a Pulumi program.
WITH_PULUMI = ("infra.program", "infra.package", "infra.update", "infra.stack.load", "infra.__main__")

#: These import inside a function, for the reason given.
LATE_IMPORTS = {
    "infra.cli.__main__": "an interrupt while modules load must not end in a traceback",
    "infra.models.__main__": "an interrupt while modules load must not end in a traceback",
    "infra.embedded.__main__": "an interrupt while modules load must not end in a traceback",
    "infra.__main__": "a stack on hosts loads nothing of Kubernetes, and one in a cluster nothing of Docker",
    "inference_service.runtimes": "a worker loads the runtime that its settings name and no other",
    "inference_service.tracing": "the extra otel may not be installed",
    "inference_service.supervisor": "metrics read their folder from the environment when they are imported",
}

MAX_LINES = 300


@dataclass(frozen=True)
class Import:
    """One import statement: who imports what, in which line, inside a function or not."""

    importer: str
    imported: str
    line: int
    in_function: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {
    module_name(path): path
    for package in ("infra", "inference_service")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_of(module: str) -> Iterator[Import]:
    """The module's imports at run time; those for the type checker alone do not count."""
    yield from _imports(module, ast.parse(MODULES[module].read_text(encoding="utf-8")), in_function=False)


def _imports(module: str, node: ast.AST, in_function: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(module, alias.name, child.lineno, in_function)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{module}:{child.lineno}: a relative import"
            for alias in child.names:
                inner = f"{child.module}.{alias.name}"
                yield Import(
                    module, inner if inner in MODULES else str(child.module), child.lineno, in_function
                )
        else:
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(module, child, in_function or function)


def part_of(module: str, package: str, layers: tuple[tuple[str, ...], ...]) -> str:
    """The entry of the table that the module belongs to: the longest one that names it or a folder above."""
    inner = module.removeprefix(package).removeprefix(".")
    parts = [part for row in layers for part in row]
    matching = [part for part in parts if inner == part or (part and inner.startswith(f"{part}."))]
    assert matching, f"{module} is in no layer; name it in tests/test_layers.py"
    return max(matching, key=len)


@pytest.mark.parametrize(("package", "layers"), [("infra", INFRA), ("inference_service", SERVICE)])
def test_imports_run_one_way(package: str, layers: tuple[tuple[str, ...], ...]) -> None:
    row_of = {part: number for number, row in enumerate(layers) for part in row}
    backwards = []
    for module in MODULES:
        if module != package and not module.startswith(f"{package}."):
            continue
        importer = part_of(module, package, layers)
        for statement in imports_of(module):
            if statement.imported.split(".")[0] != package:
                continue
            imported = part_of(statement.imported, package, layers)
            if imported != importer and row_of[imported] >= row_of[importer]:
                backwards.append(str(statement))
    assert not backwards


def test_the_service_does_not_know_the_fleet() -> None:
    assert not [
        str(statement)
        for module in MODULES
        if module.startswith("inference_service")
        for statement in imports_of(module)
        if statement.imported.split(".")[0] == "infra"
    ]


def test_no_import_hides_inside_a_function() -> None:
    hidden = [
        str(statement)
        for module in MODULES
        for statement in imports_of(module)
        if statement.in_function
        and statement.imported.split(".")[0] in ("infra", "inference_service")
        and module not in LATE_IMPORTS
    ]
    assert not hidden


def test_no_module_imports_itself_through_others() -> None:
    graph = {
        module: {statement.imported for statement in imports_of(module)} & MODULES.keys() - {module}
        for module in MODULES
    }
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " → ".join([*path[path.index(module) :], module])
        if module not in finished:
            for imported in sorted(graph[module]):
                visit(imported, (*path, module))
            finished.add(module)

    for module in MODULES:
        visit(module, ())


def test_only_the_program_and_the_update_import_pulumi() -> None:
    assert not [
        str(statement)
        for module in MODULES
        if not module.startswith(WITH_PULUMI)
        for statement in imports_of(module)
        if statement.imported.split(".")[0].startswith("pulumi")
    ]


def test_a_step_loads_neither_pulumi_nor_the_stack() -> None:
    # Pulumi starts steps by the hundred: one that loads Pulumi or pydantic takes four times as long to start.
    steps = sorted(module for module in MODULES if module.startswith("infra.steps."))
    assert steps
    script = f"""
import importlib, sys
for step in {steps}:
    importlib.import_module(step)
print(*sorted(name for name in sys.modules if name.split(".")[0] in ("pulumi", "pydantic", "grpc")
    or name.startswith(("infra.stack", "infra.program", "infra.update", "infra.embedded"))))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert loaded.stdout.split() == []


def test_no_module_is_longer_than_a_reader_keeps_in_mind() -> None:
    generated = "inference_service.grpc_api.generated"
    lengths = {
        module: len(path.read_text(encoding="utf-8").splitlines())
        for module, path in MODULES.items()
        if not module.startswith(generated)
    }
    assert not {module: lines for module, lines in lengths.items() if lines > MAX_LINES}
