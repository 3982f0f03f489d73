"""Waits for an answer that may take minutes, and notices a service that has fallen silent."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from inference_service.client.errors import Unreachable

_T = TypeVar("_T")

#: Seconds between two looks at a service that has not answered yet.
LOOK_EVERY = 10.0


def unless_silent(work: Callable[[], _T], is_alive: Callable[[], bool], where: str) -> _T:
    """Return what `work` returns, which runs in a thread; raise what it raises.

    Raises Unreachable, and leaves the thread to itself, when `is_alive` says that the service has stopped. So
    the caller needs no time limit that would fit a recording of seconds and one of an hour.
    """
    outcome: SimpleQueue[tuple[_T | None, BaseException | None]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((work(), None))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            outcome.put((None, error))

    Thread(target=run, daemon=True).start()
    while True:
        try:
            value, error = outcome.get(timeout=LOOK_EVERY)
        except Empty:
            if is_alive():
                continue
            raise Unreachable(f"{where}: took the recording and does not answer any more") from None
        if error is not None:
            raise error
        return value  # type: ignore[return-value]
