"""What of a stack is there already, from Pulumi's own state."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pulumi

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


class Deployed:
    """The resources in a stack's state, by their parent's type, type and name."""

    def __init__(self, deployment: dict[str, Any]) -> None:
        """`deployment` is what `export` returns."""
        self._known = {self._key(resource["urn"]) for resource in deployment.get("resources", [])}

    @staticmethod
    def _key(urn: str) -> tuple[str, str, str]:
        _, _, kinds, name = urn.split("::", 3)
        parent, kind = ["", *kinds.split("$")][-2:]
        return parent, kind, name

    def has(self, kind: type[pulumi.Resource], name: str, parent: pulumi.Resource | None = None) -> bool:
        """Whether a resource of that type and name is in the state, under a parent of the same type."""
        token = getattr(kind, "pulumi_type", None)
        if token is None:
            raise TypeError(f"{kind.__name__} has no Pulumi type")
        return (parent.pulumi_resource_type if parent else "", token, name) in self._known
