"""Limits the processes of a console's container: `python -m infra.steps.console limit`.

The declaration comes on standard input.
"""

import sys

from infra.connection import Connection
from infra.declaration import Declaration
from infra.steps.limits import limit_processes
from infra.steps.run import run


class Limit(Declaration, frozen=True, kw_only=True):
    """A console's container, and the processes and threads that it may have."""

    connection: Connection
    container: str
    pids: int


def limit(given: Limit) -> None:
    """Sets the limit."""
    limit_processes(given.connection, given.container, given.pids)


if __name__ == "__main__":
    sys.exit(run({"limit": (Limit, limit)}))
