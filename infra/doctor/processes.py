"""Programs that a check starts: they end with the check, and what they started ends with them."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence

_END_SECONDS = 0.5


async def start(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start a program in a session of its own, which Ctrl-C does not reach, with pipes to it."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill a program that still runs, and all that it started; close its pipes."""
    if process.returncode is None:
        kill(process, signal.SIGKILL)
        # Others may hold the pipes too: a shared SSH session, as long as its host does not answer.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
    close_pipes(process)


def close_pipes(process: asyncio.subprocess.Process) -> None:
    """Close the pipes that others may still hold open, before the event loop is closed."""
    process._transport.close()  # type: ignore[attr-defined]


def kill(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Send a signal to a program and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
