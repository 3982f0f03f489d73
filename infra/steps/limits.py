"""Limits the processes and threads of a container: the Docker provider has no argument for it."""

import shlex
import subprocess
import sys

from infra.connection import Connection, RemoteError

_SECONDS = 60


def limit_processes(connection: Connection, container: str, most: int) -> None:
    """Sets the limit. A Docker that cannot is no reason to stop an update: the step says so."""
    try:
        connection.run(f"docker update --pids-limit {most} {shlex.quote(container)}", timeout=_SECONDS)
    except (RemoteError, subprocess.TimeoutExpired) as error:
        print(f"the processes of {container} are not limited: {error}", file=sys.stderr)
