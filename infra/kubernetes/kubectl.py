"""The commands of kubectl with which people and `fleet` look at a stack in its cluster."""

import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from infra import names
from infra.kubernetes import labels
from infra.stack import Stack

_LOGGED = re.compile(r"[EIW]\d{4} ")


def kubectl(stack: Stack, *arguments: str, namespaced: bool = True) -> list[str]:
    """A command line for the stack's cluster and, unless it is not for one, its namespace."""
    kubernetes = stack.kubernetes
    given = _kubeconfig(stack)
    chosen = [f"--kubeconfig={given}"] if given is not None and not _is_content(given) else []
    if kubernetes.context is not None:
        chosen.append(f"--context={kubernetes.context}")
    if namespaced:
        chosen.append(f"--namespace={kubernetes.namespace}")
    return ["kubectl", *chosen, *arguments]


def shown(stack: Stack, *arguments: str, namespaced: bool = True) -> str:
    """The same as a person types it."""
    return shlex.join(kubectl(stack, *arguments, namespaced=namespaced))


def environment(stack: Stack, folder: Path) -> dict[str, str]:
    """The variables for a command of kubectl. A kubeconfig that the stack file contains is written to the
    private `folder`, from which the caller removes it."""
    variables = dict(os.environ)
    given = _kubeconfig(stack)
    if given is not None and _is_content(given):
        file = folder / "kubeconfig"
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(given)
        variables["KUBECONFIG"] = str(file)
    return variables


def _kubeconfig(stack: Stack) -> str | None:
    secret = stack.kubernetes.kubeconfig
    return secret.get_secret_value() if secret is not None else None


def _is_content(kubeconfig: str) -> bool:
    """Whether it is a kubeconfig, and not the path of one."""
    return "\n" in kubeconfig or kubeconfig.lstrip().startswith("{")


def selector(selecting: Mapping[str, str]) -> str:
    """The option that chooses objects by their labels."""
    return f"--selector={','.join(f'{key}={value}' for key, value in selecting.items())}"


def own_words(errors: str) -> str:
    """What kubectl says at its end; before that it logs each attempt: "E1128 01:28:13.610637 …"."""
    return "\n".join(line for line in errors.splitlines() if not _LOGGED.match(line)).strip()


def objects_command(stack: Stack) -> list[str]:
    """The command that prints the stack's Deployments and pods as JSON."""
    return kubectl(stack, "get", "deployments,pods", selector(labels.of_stack(stack)), "--output=json")


def logs_command(stack: Stack, part: str, container: str, lines: int, follow: bool) -> list[str]:
    """The command that prints the logs of all pods of a pool, by name, or of the gateway."""
    if part == names.GATEWAY:
        selecting, container = labels.of_gateway(stack), "nginx"
    else:
        [pool] = [each for each in stack.pools if each.name == part]
        selecting = labels.of_pool(stack, pool)
    further = ["--follow"] if follow else []
    return kubectl(
        stack,
        "logs",
        selector(selecting),
        f"--container={container}",
        f"--tail={lines}",
        "--prefix",
        "--max-log-requests=100",
        *further,
    )
