"""Requests that another node of the fleet should answer: this one does not serve the task, or its runtime
ended while it worked on the request.

A gateway says in headers at which of its locations it asks other nodes. The refusal of such a request names
that location in X-Accel-Redirect, so nginx asks there in place of answering, and does not count a failure of
this node. Without the headers, which clients do not send, the answer is the error's own: 501 or 503.
"""

import re
from collections.abc import Iterable
from urllib.parse import parse_qs

from litestar.types import Scope

from inference_service.errors import NotHere, RuntimeLost, ServiceError
from inference_service.http.body import header
from inference_service.offer import not_here
from inference_service.settings import ModelsSettings
from inference_service.tasks import TASK_NAMES, Task

#: A named location of nginx, and nothing that it could answer itself.
_LOCATION = re.compile(rb"@[a-z_]{1,40}")
#: nginx tries the next node at this status without counting a failure.
_STATUS = 404
#: At this one nginx tries no other node by itself: the request has run, and may be what ended the runtime.
_RAN = 500

_BY_PATH = {f"/api/v1/ai/{task.model}": task for task in Task} | {"/v1/realtime": Task.ASR}
_STREAM = "/api/v1/ai/stream"


def location(scope: Scope, name: bytes = b"x-ai-elsewhere") -> str | None:
    """Where the gateway asks other nodes, by that header; None for a request that comes from no gateway."""
    given = header(scope, name)
    return given.decode("ascii") if given is not None and _LOCATION.fullmatch(given) else None


def check(scope: Scope, models: ModelsSettings) -> None:
    """Raise NotHere for a request whose address names a task that other nodes serve: its body is not read."""
    if location(scope) is not None:
        check_tasks(tasks(scope), models)


def check_tasks(wanted: Iterable[Task], models: ModelsSettings) -> None:
    """Raise NotHere where this node does not serve all of the tasks of a request."""
    asked = list(dict.fromkeys(wanted))
    if missing := [task for task in asked if task not in models.tasks]:
        raise not_here(missing, asked)


def refusal(scope: Scope, error: ServiceError) -> tuple[int, dict[str, str]]:
    """The status of an error, and the headers that send its request to other nodes."""
    match error:
        case NotHere() if place := location(scope):
            return _STATUS, {"x-accel-redirect": place, "x-ai-tasks": ",".join(error.asked)}
        case RuntimeLost() if place := location(scope, b"x-ai-lost"):
            return _RAN, {"x-accel-redirect": place}
    return error.status, {}


def tasks(scope: Scope) -> list[Task]:
    """The tasks that the address of a request names."""
    path = scope["path"]
    if path.startswith("/v1/audio/"):
        return [Task.ASR]
    if path == _STREAM:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        names = ",".join(query.get("tasks", [])).split(",")
        return [TASK_NAMES[name] for name in names if name in TASK_NAMES] or [Task.ASR]
    return [_BY_PATH[path]] if path in _BY_PATH else []
