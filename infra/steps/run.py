"""Runs a step's action: `python -m MODULE ACTION`, with the declaration as JSON on standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from infra.declaration import DeclarationError, from_json


def run(actions: Mapping[str, tuple[Any, Callable[[Any], None]]], *errors: type[Exception]) -> int:
    """Runs the action that the command line names; returns the exit status.

    `actions` have for each name the kind of declaration (or a union of kinds), and what is done with it.
    Prints one of `errors` and returns 1; any other exception is a fault of the program.
    """
    kind, action = actions[sys.argv[1]]
    try:
        action(from_json(sys.stdin.buffer.read(), kind))
    except DeclarationError as error:
        print(f"the declaration on standard input: {error}", file=sys.stderr)
    except errors as error:
        print(error, file=sys.stderr)
    else:
        return 0
    return 1
