"""Runs a step's action: `python -m MODULE ACTION`, with the declaration as JSON on standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any


def run(actions: Mapping[str, Callable[[dict[str, Any]], None]], *errors: type[Exception]) -> int:
    """Runs the action that the command line names; returns the exit status.

    One of `errors` is said in its own words and is a failure; what else is raised is a fault in the program.
    """
    try:
        actions[sys.argv[1]](json.load(sys.stdin))
    except errors as error:
        print(error, file=sys.stderr)
        return 1
    return 0
