"""`fleet check`, `import-script` and `import-pools`: stack files without their hosts."""

from pathlib import Path
from typing import Annotated

import typer

from infra.cli import stack_files
from infra.cli.options import DEFAULT_STACK, STACK
from infra.stack.__main__ import main as stack_command


def check(
    stack: STACK = DEFAULT_STACK,
    file: Annotated[Path | None, typer.Option("--file", help="another stack file")] = None,
) -> int:
    """Check a stack file and report every mistake in it."""
    return stack_command(["check", str(file or stack_files.existing(stack))])


def import_script(
    file: Annotated[
        Path | None, typer.Argument(help="the stack file to write, e.g. Pulumi.prod.yaml")
    ] = None,
) -> int:
    """Turn the original deployment script's environment into a stack file."""
    return stack_command(["import-script", *([str(file)] if file else [])])


def import_pools(
    file: Annotated[
        Path | None, typer.Argument(help="the stack file to write, e.g. Pulumi.cluster.yaml")
    ] = None,
    stack: STACK = DEFAULT_STACK,
) -> int:
    """Turn a stack file for hosts into one for a Kubernetes cluster."""
    source = str(stack_files.existing(stack))
    return stack_command(["import-pools", source, *([str(file)] if file else [])])
