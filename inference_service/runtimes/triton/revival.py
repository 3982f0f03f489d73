"""Loads models again whose process died.

Triton runs every Python model in a process of its own. If that is killed, most likely for its memory, Triton
continues to report the model as ready, fails its requests, and never starts it again.
"""

import asyncio
import logging

from inference_service.errors import ServiceError
from inference_service.runtimes.triton.client import TritonClient

_log = logging.getLogger(__name__)

_FIRST_WAIT, _LONGEST_WAIT = 1.0, 30.0


class Revival:
    """Unloads and loads dead models, until that works or Triton itself is restarted."""

    def __init__(self, client: TritonClient, *, time_limit: float) -> None:
        """`time_limit` is the limit for loading a model, in seconds."""
        self._client = client
        self._time_limit = time_limit
        self._problems: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._revived_at: dict[str, float] = {}

    def problem(self, model: str) -> str | None:
        """The reason why the model is not ready although Triton reports it as ready; None if it is not known
        to be dead."""
        return self._problems.get(model)

    def died(self, model: str, asked_at: float) -> None:
        """A request that started at `asked_at` (of the event loop's clock) found the model's process dead."""
        # Late failures belong to the previous process.
        if model in self._problems or asked_at < self._revived_at.get(model, 0.0):
            return
        self._problems[model] = f"model {model} is not ready: its process died"
        _log.error("the process of model %s died, loading the model again", model)
        self._tasks[model] = asyncio.create_task(self._revive(model))

    def forget(self) -> None:
        """Triton was restarted, and with it all models: cancel all reloads."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._problems.clear()

    async def close(self) -> None:
        """Cancel all reloads and wait for their end."""
        tasks = list(self._tasks.values())
        self.forget()
        if tasks:
            await asyncio.wait(tasks)

    async def _revive(self, model: str) -> None:
        wait = _FIRST_WAIT
        while (problem := await self._reload(model)) is not None:
            reason = f"model {model} is not ready: its process died, and it was not loaded again: {problem}"
            if self._problems[model] != reason:
                _log.error("%s", reason)
                self._problems[model] = reason
            await asyncio.sleep(wait)
            wait = min(_LONGEST_WAIT, 2 * wait)
        self._revived_at[model] = asyncio.get_running_loop().time()
        del self._problems[model], self._tasks[model]
        _log.info("model %s is loaded again", model)

    async def _reload(self, model: str) -> str | None:
        """The reason why it did not work; None if it did."""
        try:
            # Triton takes the dead model for loaded, so loading alone would do nothing.
            await self._client.unload(model, self._time_limit)
            await self._client.load(model, self._time_limit)
        except ServiceError as error:
            return str(error)
        return None
