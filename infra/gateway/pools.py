"""Which nodes get which requests, where not every node serves every task. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from inference_service.tasks import TASK_NAMES, Task

#: The short names of all tasks.
TASKS = tuple(task.model for task in Task)


class Server(Protocol):
    """A node as the gateway dials it, with the short names of its tasks."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """What it serves."""


@dataclass(frozen=True, slots=True)
class Pools:
    """The nodes by what they serve, where not all serve everything.

    `by_name` are the servers by task. `for_any` is the name of the pool for requests whose tasks are in their
    bodies: that of the nodes with all tasks, empty for all nodes. `for_grpc` is the same for gRPC calls.
    `by_wish` are the names of tasks in the header X-AI-Tasks, and the pool of each.
    """

    by_name: dict[str, Sequence[Server]]
    for_any: str
    for_grpc: str
    by_wish: dict[str, str]


def pools(servers: Sequence[Server]) -> Pools | None:
    """The pools of a site; None where every node serves everything."""
    if all(len(server.tasks) == len(TASKS) for server in servers):
        return None
    by_name: dict[str, Sequence[Server]] = {
        task: [server for server in servers if task in server.tasks] for task in TASKS
    }
    if whole := [server for server in servers if len(server.tasks) == len(TASKS)]:
        by_name["every_task"] = whole
    # Without a node for everything: gRPC's calls are speech recognition unless they say something else.
    return Pools(
        by_name,
        "every_task" if whole else "",
        "every_task" if whole else Task.ASR.model,
        {name: task.model for name, task in TASK_NAMES.items()},
    )
