"""The embedded node and gateway as steps of a Pulumi update: the same commands that run without Pulumi."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Set
from pathlib import Path
from typing import Any

from infra import names
from infra.digest import LARGE_BYTES, digest, files_in
from infra.embedded.declarations import gateway_declaration, node_declaration
from infra.embedded.layout import Layout
from infra.embedded.supervisor import Supervisor
from infra.paths import PACKAGE, PROJECT
from infra.program.command import step
from infra.stack import Node, Stack

_MODULE = "infra.embedded"


def node(stack: Stack, declared: Node) -> dict[str, Any]:
    """The arguments of the `local.Command` that is an embedded node."""
    declaration = node_declaration(stack, declared)
    code = [PACKAGE / "inference_service"]
    programs = [names.process(declared.name, names.SERVICE)]
    if declaration.triton is not None:
        code.append(declaration.triton.repository)
        programs.append(names.process(declared.name, names.TRITON))
    stacked = f"--stack {shlex.quote(stack.name)}"
    generation = _generation(stack, declared.name, programs)
    return step(
        _MODULE,
        f"{stacked} apply-node{_keep(stack, declared.name)}",
        declaration,
        delete=f"{stacked} remove-node {declared.name}",
        secret=bool(stack.api_keys or declared.remote.token),
        environment={"REVISION": digest(files_in(*code), large_bytes=LARGE_BYTES), "GENERATION": generation},
    )


def gateway(stack: Stack, away: Set[str]) -> dict[str, Any]:
    """The arguments of the `local.Command` that is the embedded gateway."""
    declared = gateway_declaration(stack, away)
    stacked = f"--stack {shlex.quote(stack.name)}"
    return step(
        _MODULE,
        f"{stacked} apply-gateway{_keep(stack, 'gateway')}",
        declared,
        delete=f"{stacked} remove-gateway",
        secret=bool(stack.api_keys),
        environment={"GENERATION": _generation(stack, "gateway", ["gateway"])},
    )


def _generation(stack: Stack, part: str, programs: list[str]) -> str:
    """Stays the same while the part's processes run, and is a new one when they do not.

    Processes end with the computer and the state does not: so the next update sees that they have to be
    started.
    """
    file = _generation_file(stack, part)
    if file.is_file() and _running(Layout.of(stack.name), programs):
        return file.read_text(encoding="utf-8")
    return secrets.token_hex(4)


def _running(layout: Layout, programs: list[str]) -> bool:
    supervisor = Supervisor(layout)
    if not supervisor.running() or not set(programs) <= set(supervisor.programs):
        return False
    return not any(supervisor.state(program).given_up for program in programs)


def _generation_file(stack: Stack, part: str) -> Path:
    return Layout.of(stack.name).root / f"{part}.generation"


def _keep(stack: Stack, part: str) -> str:
    """What follows the command that starts the part: its generation is noted once it runs."""
    file = _generation_file(stack, part).relative_to(PROJECT)
    return f' && printf %s "$GENERATION" >{shlex.quote(str(file))}'
