"""The containers on a host, from `docker ps`: whose they are, and the ports that they publish."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from infra import names

_LABELS = (
    names.STACK_LABEL,
    names.ROLE_LABEL,
    "com.docker.compose.project",
    "com.docker.compose.service",
)
_FIELDS = (
    "{{.Names}}",
    "{{.Ports}}",
    "{{.ID}}",
    "{{.Status}}",
    *(f'{{{{.Label "{label}"}}}}' for label in _LABELS),
)
#: Prints the input of `listed`: every container, the newest first.
SCRIPT = "docker ps --no-trunc --all --format '" + "\t".join(_FIELDS) + "'"

# The services of the compose file of the original service. Compose names a container after its project and
# service, with a number: gpu-ai-triton-1, in its first version gpu-ai_triton_1.
_ORIGINAL = re.compile(
    r"(?P<project>.*?)[-_]?(?P<service>ai-inference-service|triton|edge-unit-manager|edge-llm-node)([-_]\d+)?"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A container. `published` are addresses (empty: all) and ports of the host while it runs.

    `stack` and `role` are the labels of a stack's containers. `original` is the compose project of a
    container of the original service, and None for every other container.
    """

    name: str
    published: tuple[tuple[str, int], ...]
    id: str
    running: bool
    stack: str = ""
    role: str = ""
    original: str | None = None

    @property
    def node(self) -> str:
        """The node of a stack's container; empty for the gateways' and for other containers."""
        if not self.stack or self.role not in names.NODE_PARTS:
            return ""
        return names.node_of(self.stack, self.name, self.role) or self.name


def listed(docker_ps: str) -> list[Listed]:
    """The containers in the output of `SCRIPT`, the oldest first."""
    found = []
    for line in reversed(docker_ps.splitlines()):
        fields = [*line.split("\t"), *[""] * len(_FIELDS)]
        name, ports, identity, status, stack, role, project, service = fields[: len(_FIELDS)]
        found.append(
            Listed(
                name,
                tuple(_published(ports)),
                identity,
                status.startswith("Up"),
                stack,
                role,
                None if stack else _original(name, project, service),
            )
        )
    return found


def _original(name: str, project: str, service: str) -> str | None:
    """The compose project of a container of the original service."""
    match = _ORIGINAL.fullmatch(service or name)
    return (project or match["project"]) if match else None


def _published(ports: str) -> Iterator[tuple[str, int]]:
    for address, first, last in re.findall(r"(\S*):(\d+)(?:-(\d+))?->\d+(?:-\d+)?/tcp", ports):
        for number in range(int(first), int(last or first) + 1):
            yield specific(address.strip("[]")), number


def specific(address: str) -> str:
    """The address, or an empty text for all addresses."""
    return "" if address in ("0.0.0.0", "::") else address
