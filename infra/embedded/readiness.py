"""Waits until a node or the gateway of an embedded stack answers."""

import time
from collections.abc import Callable, Sequence

from infra.embedded.errors import EmbeddedError
from infra.embedded.supervisor import Supervisor
from infra.health_route import unready

_POLL_SECONDS = 0.5
_CRASHES = 3  # after this many failed starts in a row, another start will not succeed either

#: Called with a part of the stack and the reason why it is not ready.
Progress = Callable[[str, str], None]


def quiet(_part: str, _message: str) -> None:
    """Discards progress."""


def wait_until_ready(
    supervisor: Supervisor, programs: Sequence[str], url: str, part: str, seconds: int, progress: Progress
) -> None:
    """Wait until `url` answers 200, and report each reason why it does not yet.

    Raises EmbeddedError with a program's last log lines when the program keeps crashing, or after `seconds`.
    """
    begin = time.monotonic()
    starts: dict[str, set[int]] = {name: set() for name in programs}
    while (reason := unready(url)) is not None:
        for name in programs:
            state = supervisor.state(name)
            starts[name] |= {state.started} - {0}
            # The last start may still succeed. A program that fails slowly is RUNNING until it fails.
            failed = len(starts[name]) - (state.name in ("STARTING", "RUNNING"))
            if state.given_up or failed >= _CRASHES:
                raise _failed(supervisor, name, f"does not start ({state.name}: {state.detail})")
        if time.monotonic() - begin > seconds:
            raise _failed(supervisor, programs[-1], f"is not ready after {seconds} s: {reason}")
        progress(part, reason)
        time.sleep(_POLL_SECONDS)


def _failed(supervisor: Supervisor, name: str, what: str) -> EmbeddedError:
    return EmbeddedError(
        f"{name} {what}\nThe end of {supervisor.layout.log(name)}:\n{supervisor.last_lines(name)}"
    )
