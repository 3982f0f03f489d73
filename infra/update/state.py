"""What of a stack is there already, from Pulumi's own state."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from infra.paths import pulumi_cli


class StateError(RuntimeError):
    """The stack's state cannot be read; `str(error)` has the CLI's own words."""


def export(stack: str) -> dict[str, Any]:
    """The state of a stack as the last update left it, secrets encrypted; also while an update runs.

    Raises StateError.
    """
    cli = pulumi_cli()
    if cli is None:
        raise StateError("the pulumi command is neither on PATH nor in ~/.pulumi/bin")
    done = subprocess.run(
        [str(cli), "stack", "export", "--stack", stack, "--non-interactive"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StateError(f"the state of {stack} cannot be read: {done.stderr.strip()}")
    return dict(json.loads(done.stdout)["deployment"] or {})
