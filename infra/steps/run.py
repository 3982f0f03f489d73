"""Runs a step's action: `python -m MODULE ACTION`, with the declaration as JSON on standard input."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from infra.declaration import DeclarationError, from_json


def run(actions: Mapping[str, tuple[Any, Callable[[Any], None]]], *errors: type[Exception]) -> int:
    """Runs the action that the command line names; returns the exit status.

    `actions` maps a name to the kind of its declaration (or a union of kinds) and its function. Exceptions in
    `errors` are expected: it prints the message and returns 1. Any other exception is a bug and propagates.
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
