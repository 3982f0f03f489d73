"""Limits the processes of a console's container: `python -m infra.steps.console limit`.

The declaration comes on standard input. The Docker provider has no argument for this limit.
"""

import shlex
import subprocess
import sys

from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.steps.run import run

_DOCKER_SECONDS = 60


class Limit(Declaration, frozen=True, kw_only=True):
    """A console's container, and the processes and threads that it may have."""

    connection: Connection
    container: str
    pids: int


def limit(given: Limit) -> None:
    """Sets the limit. A Docker that cannot is no reason to stop an update: the step says so."""
    try:
        given.connection.run(
            f"docker update --pids-limit {given.pids} {shlex.quote(given.container)}", timeout=_DOCKER_SECONDS
        )
    except (RemoteError, subprocess.TimeoutExpired) as error:
        print(f"the processes of {given.container} are not limited: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run({"limit": (Limit, limit)}))
