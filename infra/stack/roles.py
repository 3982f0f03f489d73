"""The tasks of a fleet's nodes: which node serves which, what no node serves, and the rules about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from inference_service.tasks import Task
from infra.stack.gateway import Gateway
from infra.stack.node import Node
from infra.stack.problems import Problem
from infra.stack.runtimes import Service

if TYPE_CHECKING:
    from infra.stack.types import Stack


def tasks(stack: Stack, node: Node) -> list[str]:
    """What a node serves: its own tasks, without those that the settings switch off on every node."""
    return [task for task in node.tasks if not _is_off(stack.service, task)]


def by_node(stack: Stack) -> dict[str, list[str]]:
    """What each node serves, by its name."""
    return {node.name: tasks(stack, node) for node in stack.nodes}


def warnings(stack: Stack) -> list[str]:
    """The tasks that no node serves, or none with traffic: their requests are refused."""
    found = []
    for task in (task.model for task in Task if not _is_off(stack.service, task.model)):
        serving = [node for node in stack.nodes if task in node.tasks]
        refused = f"the gateway answers 503 to requests for {task}"
        if not serving:
            found.append(f"no node serves {task}, so {refused}; nodes[].tasks lists what each node serves")
        elif len(serving) < len(stack.nodes) and all(node.drained for node in serving):
            names = ", ".join(node.name for node in serving)
            found.append(f"each node that serves {task} is drained ({names}), so {refused}")
    return found


def check(nodes: Mapping[int, Node], service: Service | None, gateway: Gateway | None) -> Iterator[Problem]:
    """Yields what the tasks of the nodes contradict; `nodes` are the valid nodes by position."""
    for position, node in nodes.items():
        path = f"nodes[{position}].tasks"
        for task in node.tasks if service is not None and "tasks" in node.model_fields_set else ():
            if _is_off(service, task):
                key = f"service.config.ai.models.{task}.enabled"
                yield Problem(path, f"{task} is switched off on every node by {key}: false")
    roles = {tuple(node.tasks) for node in nodes.values()}
    if gateway is None or len(roles) < 2:
        return
    first = next(position for position, node in nodes.items() if not node.serves_all)
    path = f"nodes[{first}].tasks"
    if gateway.mode == "existing":
        yield Problem(
            path, "an existing site sends every request to every node; expected the same tasks on all nodes"
        )
    elif gateway.grpc_balancing == "layer4" and not any(node.serves_all for node in nodes.values()):
        yield Problem(
            path,
            "grpcBalancing layer4 cannot choose a node by the task of a call; expected a node with all tasks",
        )


def _is_off(service: Service | None, task: str) -> bool:
    at: object = service.config if service is not None else None
    for key in ("ai", "models", task, "enabled"):
        at = at.get(key) if isinstance(at, dict) else None
    return at is False
