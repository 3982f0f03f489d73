"""Steps on a host, or here for the embedded stack: a module of this project with JSON on its input."""

import shlex
from collections.abc import Mapping
from typing import Any

import pulumi

from infra.declaration import Declaration
from infra.paths import here, python


def step(
    module: str,
    action: str,
    declaration: Declaration | pulumi.Output[str],
    *,
    delete: str | None = None,
    secret: bool = False,
    triggers: list[Any] | None = None,
    environment: Mapping[str, pulumi.Input[str]] | None = None,
) -> dict[str, Any]:
    """The arguments of a `local.Command` that runs `python -m module action`.

    A declaration that is an output is JSON already. A changed declaration or environment runs the step again;
    changed `triggers` replace it. `delete` is the action on removal. A `secret` declaration is encrypted in
    the state and shown nowhere.
    """
    call = f"{shlex.quote(python())} -m {module}"
    text = declaration if isinstance(declaration, pulumi.Output) else declaration.to_json()
    arguments: dict[str, Any] = {
        "create": f"{call} {action}",
        "stdin": pulumi.Output.secret(text) if secret else text,
        "dir": here("."),
        "environment": environment,
        "triggers": triggers,
    }
    if delete is not None:
        arguments["delete"] = f"{call} {delete}"
    return {name: value for name, value in arguments.items() if value is not None}
