"""The doctor imports neither Pulumi nor the inside of the service."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from infra.paths import PROJECT

#: All of infra shares these with the service: `addresses` has the ports on a node's network, `model_cards`
#: what a model says of itself.
SHARED = {"inference_service.addresses", "inference_service.model_cards"}
DOORS = {"inference_service.diagnosis", "inference_service.settings", *SHARED}


def imported(file: Path) -> set[str]:
    """The modules of the service that a file imports."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "inference_service":
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    return {module for module in modules if module.startswith("inference_service")}


def test_the_service_is_used_through_its_doors_only() -> None:
    files = sorted((PROJECT / "infra" / "doctor").rglob("*.py"))
    assert files
    others = {str(file): used for file in files if (used := imported(file) - DOORS)}
    assert others == {}


def test_the_doctor_loads_no_pulumi() -> None:
    program = "import sys, infra.doctor.cli; print([name for name in sys.modules if 'pulumi' in name])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout == "[]\n"
