"""Puts nodes that answer back behind the gateway: `python -m infra.steps.traffic apply`.

It runs before the first node changes. A node that was drained, or away in the last update, has `down` in the
gateway's configuration, and the new configuration is written after the last node has changed. Meanwhile the
other nodes change, so a node that can serve must serve now.
"""

import secrets
import shlex
import subprocess
import sys

from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.gateway import reload
from infra.node_health import NodeAddress, problems
from infra.steps.run import run

_ANSWER_SECONDS = 3


class Traffic(Declaration, frozen=True, kw_only=True):
    """The nodes that get traffic, and the gateway's live configuration: a file on the gateway's host, and the
    script there that reloads it."""

    gateway: Connection
    file: str
    reload: str
    nodes: tuple[NodeAddress, ...]


def apply(traffic: Traffic) -> None:
    """Takes `down` from the servers of nodes that answer, and reloads nginx. Raises RemoteError."""
    file = shlex.quote(traffic.file)
    # The end of a server's line in nginx/macros.j2.
    marked = traffic.gateway.run(f"[ ! -e {file} ] || grep -o ' down; # .*' {file} | sort -u").stdout
    down = {line.rpartition(" ")[2] for line in marked.splitlines()}
    returning = [node for node in traffic.nodes if node.node in down]
    reasons = problems(returning, _ANSWER_SECONDS)
    back = [node.node for node in returning if node.node not in reasons]
    if back:
        # A rename, so that nginx never reads half a file.
        ends = " ".join(f"-e {shlex.quote(f's/ down; # {name}$/; # {name}/')}" for name in back)
        traffic.gateway.run(
            f'set -e; target=$(readlink -f {file}); cp -p "$target" "$target.new";'
            f' sed -i {ends} "$target.new"; mv "$target.new" "$target"; {traffic.reload}',
            timeout=reload.SECONDS,
        )
    for name in back:
        print(f"node {name} answers and gets traffic again")
    for name, reason in reasons.items():
        print(f"node {name} gets no traffic yet: {reason}")
    # Another output at every run, so that the gateway's configuration is written again after this step.
    print(f"run {secrets.token_hex(8)}")


if __name__ == "__main__":
    sys.exit(run({"apply": (Traffic, apply)}, RemoteError, subprocess.TimeoutExpired))
