"""Finds the file of a stack."""

import difflib
import re
from pathlib import Path

from infra import names
from infra.paths import PROJECT

_FILE = re.compile(r"Pulumi\.(.+)\.yaml")


class NoStackFile(Exception):
    """A stack without a file; `str(error)` says which there are, and its last line what helps."""


def path_of(stack: str) -> Path:
    """Where the file of a stack of that name is, or would be. Raises NoStackFile for an impossible name."""
    if not names.STACK_NAME.fullmatch(stack):
        raise NoStackFile(f"--stack {stack}: expected letters, digits and . _ - (at most 100)")
    return PROJECT / f"Pulumi.{stack}.yaml"


def known() -> list[str]:
    """The stacks that have a file here, by name."""
    found = (_FILE.fullmatch(path.name) for path in PROJECT.glob("Pulumi.*.yaml"))
    return sorted(match[1] for match in found if match)


def existing(stack: str) -> Path:
    """The file of a stack.

    Raises NoStackFile naming the stacks that there are, and the command that makes one.
    """
    path = path_of(stack)
    if path.is_file():
        return path
    others = known()
    near = difflib.get_close_matches(stack, others, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    there = f"Stacks here: {', '.join(others)}." if others else "No stack file is here."
    raise NoStackFile(f"{path.name} is not in {PROJECT}. {there}{hint}\nTo make it: fleet init {stack}")
