"""Limits of the whole node and each worker's share of them: the shares add up to the limit exactly."""

from typing import Any, TypeVar

from inference_service.tasks import Task

_Section = TypeVar("_Section")

_SESSIONS = ("ai", "runtime", "edge_llm", "max_sessions")
_BYTES = ("server", "byte_budget")
_LIMITS = (
    ("server", "max_concurrency"),
    ("server", "max_queue"),
    ("server", "max_streams"),
    *(("ai", "models", task.model, "max_concurrent") for task in Task),
    _SESSIONS,
)


def too_small(settings: Any) -> list[str]:
    """A line for each limit that leaves a worker with nothing. A queue of 0 is no queue, and allowed."""
    workers = settings.server.workers
    problems = []
    for path in _LIMITS:
        if path == _SESSIONS and settings.backend != "edge-llm":
            continue
        limit = _value(settings, path)
        if limit and limit < workers:
            problems.append(f"{'.'.join(path)}: {limit} is less than server.workers ({workers})")
    return problems


def for_worker(settings: _Section, index: int) -> _Section:
    """The settings of the worker with this index (from 0), in which its shares replace the node's limits.

    The first workers get one more where a limit is no multiple of their number.
    """
    workers = _value(settings, ("server", "workers"))
    settings = _replaced(settings, _BYTES, _value(settings, ("byte_budget",)))
    for path in (*_LIMITS, _BYTES):
        limit = _value(settings, path)
        if limit is not None:
            settings = _replaced(settings, path, limit // workers + (index < limit % workers))
    return settings


def _value(section: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        section = getattr(section, key)
    return section


def _replaced(section: Any, path: tuple[str, ...], value: int) -> Any:
    key, *rest = path
    inner = _replaced(getattr(section, key), tuple(rest), value) if rest else value
    return section.model_copy(update={key: inner})
