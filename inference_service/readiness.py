"""Whether the runtime can answer: checked when somebody asks, not more than about once a second."""

import asyncio
import logging
from time import monotonic

from inference_service.errors import ServiceError
from inference_service.runtimes.base import Readiness, Runtime

_log = logging.getLogger(__name__)

#: Seconds for which a readiness is reused. With the time of a check, a change is visible within 2 s.
READINESS_AGE = 0.8
#: Seconds after which a runtime that has not answered counts as not ready.
READINESS_TIMEOUT = 1.1


class ReadinessCheck:
    """The readiness of one runtime, whose changes it logs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._last: tuple[float, Readiness] | None = None
        self._checking: asyncio.Task[Readiness] | None = None

    async def now(self) -> Readiness:
        """Whether the runtime can answer now, at most `READINESS_AGE` seconds old."""
        if self._last is not None and monotonic() - self._last[0] < READINESS_AGE:
            return self._last[1]
        # Concurrent callers share one check of the runtime. It is shielded: a caller that is cancelled must
        # not cancel it for the others.
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check())
        return await asyncio.shield(self._checking)

    def forget(self) -> None:
        """Check anew when somebody asks next."""
        self._last = None

    def close(self) -> None:
        """Cancel a check that runs."""
        if self._checking is not None:
            self._checking.cancel()

    async def _check(self) -> Readiness:
        try:
            async with asyncio.timeout(READINESS_TIMEOUT):
                readiness = await self._runtime.readiness()
        except TimeoutError:
            readiness = Readiness(False, [f"the {self._runtime.name} runtime did not answer within a second"])
        except ServiceError as error:
            readiness = Readiness(False, [str(error)])
        if self._last is None or self._last[1] != readiness:
            level, state = (logging.INFO, "ready") if readiness.ready else (logging.WARNING, "not ready")
            extra = {"problems": readiness.problems, "runtime": self._runtime.address}
            _log.log(level, state, extra=extra)
        self._last = (monotonic(), readiness)
        return readiness
