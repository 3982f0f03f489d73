"""The command: `python -m infra.doctor --stack NAME` examines a fleet, `… models PATH` a model repository."""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError
from rich.console import Console

from inference_service.settings import ModelsSettings, SettingsError
from inference_service.settings import load as load_settings
from infra import names
from infra.connection import open_jump
from infra.doctor import display, linter
from infra.doctor.cluster.plan import ClusterPlan
from infra.doctor.findings import Finding, Status
from infra.doctor.plan import Plan
from infra.doctor.runner import chosen, run
from infra.embedded.layout import STATE, Layout
from infra.embedded.triton import backend_names
from infra.image_references import ContextError
from infra.stack import Stack, StackError, load_file
from infra.stack.files import NoStackFile, existing

API_KEY = "GPU_INFERENCE_API_KEY"
_OK, _FOUND, _USAGE = 0, 1, 2
#: Columns of output to a file or a pipe: wide enough to keep commands on one line.
_JUMP_SECONDS = 8
_PLAIN_WIDTH = 200


class Usage(Exception):
    """A wrong argument; `str(error)` names it and what is allowed."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0 without a problem or warning, 1 with one, 2 after a usage error."""
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except (Usage, NoStackFile, StackError, SettingsError, ContextError, linter.NotARepository) as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:  # no space for temporary files, for one
        print(f"error: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
    return _USAGE


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="fleet doctor",
        description="Checks a whole fleet from this computer and changes nothing.",
        epilog="Exit status: 0 without a problem or warning; 1 with one; 2 for a wrong command or stack "
        f"file. {API_KEY} is the API key to use where the nodes' own cannot be read. "
        "docs/doctor.md explains every finding.",
    )
    parser.set_defaults(run=examine)
    parser.add_argument(
        "--stack",
        "-s",
        default=os.environ.get("FLEET_STACK", "dev"),
        help="the stack's name: Pulumi.<stack>.yaml (default: FLEET_STACK, or dev)",
    )
    parser.add_argument("--file", type=Path, help="another stack file")
    parser.add_argument(
        "--node", action="append", default=[], help="this node only (or `gateway`); may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--all", action="store_true", help="show the checks that passed, too")
    parser.add_argument("--state", type=Path, default=STATE, help="the folder of the embedded stacks' states")
    models = parser.add_subparsers(metavar="models").add_parser(
        "models", help="check a model repository on this computer", description=linter.__doc__
    )
    models.set_defaults(run=lint)
    models.add_argument("path", type=Path, help="the model repository")
    models.add_argument("--config", type=Path, help="the service's YAML file that the models are for")
    models.add_argument(
        "--for-stack", metavar="STACK", help="the stack whose service.config the models are for"
    )
    models.add_argument("--json", action="store_true", help="print the faults as JSON")
    return parser


def examine(given: argparse.Namespace) -> int:
    """Examine a stack, and print its findings."""
    stack = load_file(given.file or existing(given.stack))
    allowed = [node.name for node in stack.nodes] + sorted(
        {names.GATEWAY, *(each.name for each in stack.gateway.each)}
    )
    unknown = [name for name in given.node if name not in allowed]
    if unknown:
        raise Usage(f"--node {unknown[0]}: expected one of {', '.join(allowed)}")
    console = Console(stderr=given.json, highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    begin = time.monotonic()
    findings = asyncio.run(
        findings_of(
            stack, Layout.for_stack(stack.name, given.state), given.node, console, os.environ.get(API_KEY)
        )
    )
    seconds = time.monotonic() - begin
    if given.json:
        report = {
            "stack": stack.name,
            "seconds": round(seconds, 2),
            "counts": {status.value: sum(each.status is status for each in findings) for status in Status},
            "findings": [{**asdict(each), "seconds": round(each.seconds, 3)} for each in findings],
        }
        _print_json(report)
    else:
        display.show(console, findings, seconds, verbose=given.all)
    return _OK if all(finding.status is Status.OK for finding in findings) else _FOUND


async def findings_of(
    stack: Stack, layout: Layout, nodes: list[str], console: Console, api_key: str | None
) -> list[Finding]:
    # Not the default folder for temporary files: the path of a control socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="doctor-", dir="/tmp") as folder:
        plan: Plan | ClusterPlan
        if stack.in_cluster:
            plan = ClusterPlan(stack, Path(folder))
        else:
            plan = Plan(stack, Path(folder), layout, api_key)
            await asyncio.to_thread(open_jump, stack.ssh, _JUMP_SECONDS)
        checks = chosen(plan.checks, nodes) if nodes else plan.checks
        try:
            with display.progress(console, checks):
                return await run(checks)
        finally:
            await plan.close()


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=1, ensure_ascii=False))


def lint(given: argparse.Namespace) -> int:
    """Check a model repository on this computer, and print its faults."""
    expected, backends = _expected(given)
    faults = linter.lint(linter.local(given.path), expected, backends)
    if given.json:
        _print_json([asdict(fault) for fault in faults])
    else:
        for fault in faults:
            print(f"{given.path}/{fault}\n    → {fault.remedy}")
        print(f"{len(faults)} faults" if faults else "no fault")
    return _FOUND if faults else _OK


def _expected(given: argparse.Namespace) -> tuple[ModelsSettings, tuple[str, ...] | None]:
    """The models that the service requires: from its file, from the stack, or its defaults.

    And the backends that run them, None where any may be there: an embedded node has few.
    """
    if given.config is not None:
        return load_settings(given.config, {})[0].ai.models, None
    if given.for_stack is None:
        return ModelsSettings(), None
    stack = load_file(existing(given.for_stack))
    backends = backend_names() if any(node.embedded for node in stack.nodes) else None
    try:
        models = ModelsSettings.model_validate(stack.service.config.get("ai", {}).get("models", {}))
        return models, backends
    except ValidationError as error:
        raise Usage(f"service.config.ai.models: {error}") from None
