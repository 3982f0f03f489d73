"""nginx's rendered file on the gateway's host against the stack: its upstreams, then every other line."""

import difflib
import tempfile
from typing import Any

import crossplane

from infra.doctor.answers import failing
from infra.doctor.findings import Outcome, ok, problem, warning, worst
from infra.doctor.sites.gateway import GatewaySite

_UPSTREAM = "ai_inference_service"
_SHOWN_LINES = 4


async def configuration(gateway: GatewaySite) -> Outcome:
    """Whether nginx's file is the one that the stack declares."""
    repair = gateway.repair
    with failing(repair):
        actual, declared = await gateway.configuration()
    servers, declared_servers = upstream_servers(actual), upstream_servers(declared)
    if actual == declared:
        return ok(f"as declared; upstreams: {', '.join(servers)}")
    stale = [
        f"it sends to {server}, which the stack does not have"
        for server in servers
        if server not in declared_servers
    ]
    stale += [f"it lacks {server}" for server in declared_servers if server not in servers]
    if stale:
        return worst([problem(f"stale upstream: {each}", repair) for each in stale], "")
    changed = [
        line
        for line in difflib.unified_diff(declared.splitlines(), actual.splitlines(), lineterm="", n=0)
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    return warning(
        f"nginx's configuration is not the declared one: {' | '.join(changed[:_SHOWN_LINES])}", repair
    )


def upstream_servers(text: str) -> list[str]:
    """The nodes in a configuration's upstream as `name (address)`; of drained ones `name (address, down)`.

    From an upstream file, which an existing nginx includes into its own upstream, all servers are returned.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        # Each file alone: it may only be valid where another includes it.
        parsed = crossplane.parse(
            file.name, single=True, comments=True, check_ctx=False, check_args=False, catch_errors=True
        )
    directives = parsed["config"][0]["parsed"]
    block = _upstream(directives)
    return _servers(directives if block is None else block)


def _upstream(directives: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """The content of the block `upstream ai_inference_service`, wherever it is."""
    for directive in directives:
        block = directive.get("block", [])
        if directive["directive"] == "upstream" and directive["args"] == [_UPSTREAM]:
            return list(block)
        if (inner := _upstream(block)) is not None:
            return inner
    return None


def _servers(directives: list[dict[str, Any]]) -> list[str]:
    """The servers among the directives; a node's name is the comment on the same line."""
    comments = {each["line"]: each["comment"].strip() for each in directives if each["directive"] == "#"}
    servers = []
    for directive in directives:
        if directive["directive"] == "server" and directive["args"]:
            address, *options = directive["args"]
            name = comments.get(directive["line"], "an unnamed node")
            servers.append(f"{name} ({address}{', down' if 'down' in options else ''})")
    return servers
