"""Checks that the unit manager and the llm node run, in milliseconds and without a session."""

import asyncio
from typing import Final

from inference_service.errors import NotReady
from inference_service.runtimes.edge_llm.connection import (
    UNIT_CALL_FAILED,
    Connection,
    SessionLost,
    new_request_id,
)
from inference_service.runtimes.edge_llm.frames import ProtocolError, action_frame

#: A unit that no node has, so the unit manager itself answers a call to it.
_NO_UNIT: Final = "none"

#: A call that every unit's RPC server answers by itself, even while the unit is busy, without a frame to us.
_HARMLESS: Final = "list_action"


class Probe:
    """A connection of its own, kept open: if it breaks, the unit manager was restarted.

    It sends two requests, which the unit manager handles in turn. The first is a call to the llm node; it
    gets no answer if the node runs. The second is a call that only the unit manager can refuse. An answer to
    the second means that both run. `unit call false` for the first means that the node does not run.
    """

    def __init__(self, address: str, delay: float, time_limit: float) -> None:
        """`delay` is the time between frames that this unit manager needs. Both arguments are in seconds."""
        self._address = address
        self._time_limit = time_limit
        self._delay = delay
        self._connection: Connection | None = None
        #: The number of connections so far. When it rises, earlier sessions are gone.
        self.generation = 0

    async def check(self) -> None:
        """Check both within the time limit. Raises NotReady with the reason if one does not run."""
        try:
            async with asyncio.timeout(self._time_limit):
                for _ in range(2):
                    try:
                        return await self._ask()
                    except SessionLost:
                        self.close()
            raise NotReady("the unit manager closes its connections")
        except (TimeoutError, NotReady, ProtocolError) as error:
            self.close()
            if isinstance(error, TimeoutError):
                raise NotReady(
                    f"the unit manager did not answer within {self._time_limit:g} s "
                    "(it waits for an llm node that does not answer, or it is stuck)"
                ) from None
            raise

    async def _ask(self) -> None:
        if self._connection is None or self._connection.broken:
            self.close()
            self._connection = await Connection.open(self._address, self._time_limit)
            self.generation += 1
        to_node, to_no_unit = new_request_id(), new_request_id()
        await self._connection.send(action_frame(to_node, "llm", _HARMLESS))
        await asyncio.sleep(self._delay)
        await self._connection.send(action_frame(to_no_unit, _NO_UNIT, _HARMLESS))
        node_called = True
        while True:
            reply = await self._connection.receive()
            code = reply.error.code if reply.error else 0
            if reply.request_id == to_node:
                node_called = code != UNIT_CALL_FAILED
            elif reply.request_id in (to_no_unit, "0"):
                if not node_called:
                    raise NotReady(
                        "the unit manager has no llm node: it is not running, or the two do not share "
                        "one /tmp"
                    )
                return

    def close(self) -> None:
        """Close the connection; the next check opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
