"""The commands of kubectl with which people and `fleet` look at a stack in its cluster."""

from infra import names
from infra.kubernetes import labels
from infra.stack import Stack


def kubectl(stack: Stack, *arguments: str) -> list[str]:
    """A command line for the stack's cluster and namespace."""
    context = stack.kubernetes.context
    chosen = [f"--context={context}"] if context is not None else []
    return ["kubectl", *chosen, f"--namespace={stack.kubernetes.namespace}", *arguments]


def objects_command(stack: Stack) -> list[str]:
    """The command that prints the stack's Deployments and pods as JSON."""
    return kubectl(
        stack, "get", "deployments,pods", f"--selector={labels.STACK}={stack.name}", "--output=json"
    )


def logs_command(stack: Stack, part: str, container: str, lines: int, follow: bool) -> list[str]:
    """The command that prints the logs of all pods of a pool, by name, or of the gateway."""
    if part == names.GATEWAY:
        selecting, container = labels.of_gateway(stack), "nginx"
    else:
        [pool] = [each for each in stack.pools if each.name == part]
        selecting = labels.of_pool(stack, pool)
    selector = ",".join(f"{key}={value}" for key, value in selecting.items())
    further = ["--follow"] if follow else []
    return kubectl(
        stack,
        "logs",
        f"--selector={selector}",
        f"--container={container}",
        f"--tail={lines}",
        "--prefix",
        "--max-log-requests=100",
        *further,
    )
