"""The resources of a stack that exist already, read from Pulumi's state."""

import json
import subprocess
from typing import Any

from infra.paths import pulumi_cli


class StateError(RuntimeError):
    """The stack's state cannot be read; `str(error)` has the CLI's message."""


def export(stack: str) -> dict[str, Any]:
    """The state of a stack after the last update, with secrets encrypted. It can be read during an update.

    Raises StateError.
    """
    cli = pulumi_cli()
    if cli is None:
        raise StateError("the pulumi command is neither on PATH nor in ~/.pulumi/bin")
    result = subprocess.run(
        [str(cli), "stack", "export", "--stack", stack, "--non-interactive"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise StateError(f"the state of {stack} cannot be read: {result.stderr.strip()}")
    return dict(json.loads(result.stdout)["deployment"] or {})
