"""The embedded node and gateway as steps of a Pulumi update: the same commands that run without Pulumi."""

from __future__ import annotations

import dataclasses
import secrets
import shlex
from collections.abc import Set
from typing import Any

from infra.command import step
from infra.embedded.declarations import gateway_declaration, node_declaration
from infra.embedded.layout import Layout
from infra.embedded.revision import revision
from infra.embedded.supervisor import Supervisor
from infra.paths import PROJECT
from infra.stack import Node, Stack

_MODULE = "infra.embedded"


def node(stack: Stack, declared: Node) -> dict[str, Any]:
    """The arguments of the `local.Command` that is an embedded node."""
    declaration = node_declaration(stack, declared, PROJECT)
    code = [PROJECT / "inference_service"]
    programs = [f"{declared.name}-service"]
    if declaration.triton is not None:
        code.append(declaration.triton.repository)
        programs.append(f"{declared.name}-triton")
    stacked = f"--stack {shlex.quote(stack.name)}"
    generation = _generation(stack, declared.name, programs)
    return step(
        _MODULE,
        f"{stacked} apply-node{_keep(stack, declared.name)}",
        _relative(declaration.model_dump(mode="json")),
        delete=f"{stacked} remove-node {declared.name}",
        secret=bool(stack.api_keys or (declared.remote and declared.remote.token)),
        environment={"REVISION": revision(code), "GENERATION": generation},
    )


def gateway(stack: Stack, away: Set[str]) -> dict[str, Any]:
    """The arguments of the `local.Command` that is the embedded gateway."""
    declaration = gateway_declaration(stack)
    servers = tuple(
        dataclasses.replace(server, drained=server.drained or server.name in away)
        for server in declaration.servers
    )
    declared = declaration.model_copy(update={"servers": servers})
    stacked = f"--stack {shlex.quote(stack.name)}"
    return step(
        _MODULE,
        f"{stacked} apply-gateway{_keep(stack, 'gateway')}",
        declared.model_dump(mode="json"),
        delete=f"{stacked} remove-gateway",
        secret=bool(stack.api_keys),
        environment={"GENERATION": _generation(stack, "gateway", ["gateway"])},
    )
