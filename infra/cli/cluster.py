"""The state of a stack in its cluster, by kubectl."""

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra import names
from infra.cli.screen import Failed
from infra.cli.state import PartState
from infra.kubernetes.gateway import public_url
from infra.kubernetes.kubectl import environment, objects_command, own_words
from infra.kubernetes.state import parts
from infra.stack import Stack

_SECONDS = 30


def states(stack: Stack) -> list[PartState]:
    """The state of each pool and of the gateway. Raises Failed where the cluster does not tell."""
    need_kubectl()
    command = objects_command(stack)
    try:
        with variables(stack) as own:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=own
            )
    except subprocess.TimeoutExpired:
        raise Failed(f"the cluster does not answer within {_SECONDS} s: {' '.join(command)}") from None
    if done.returncode:
        raise Failed(f"the cluster does not tell: {' '.join(own_words(done.stderr).splitlines())}")
    roles = {node.name: (node.role, stack.node_url(node), str(node.host)) for node in stack.nodes}
    roles[names.GATEWAY] = ("gateway", public_url(stack), str(stack.gateway.host))
    drained = {node.name for node in stack.nodes if node.drained}
    found = []
    for part in parts(stack, json.loads(done.stdout)["items"]):
        role, address, host = roles[part.name]
        state = "drained" if part.name in drained and part.state == "healthy" else part.state
        found.append(PartState(part.name, host, role, state, address, {}))
    return found


@contextlib.contextmanager
def variables(stack: Stack) -> Iterator[dict[str, str]]:
    """The environment of a command of kubectl, with the kubeconfig that the stack file contains."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        yield environment(stack, Path(folder))


def need_kubectl() -> None:
    """Raises Failed without kubectl."""
    if shutil.which("kubectl") is None:
        raise Failed("kubectl is not on PATH; a stack in a cluster needs it")
