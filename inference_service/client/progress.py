"""How far a recording has come, on a terminal: a bar with the remaining time."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import soundfile
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """The progress of one recording."""

    def __init__(self, progress: Progress, task: TaskID, name: str, seconds: float | None) -> None:
        self._progress, self._task, self._name, self._seconds = progress, task, name, seconds
        self._is_sent = False

    def sent(self, part: float) -> None:
        """The fraction of the file that is sent; after all of it, the service recognises."""
        if self._is_sent:
            return
        self._progress.update(self._task, completed=part)
        if part >= 1.0:
            self._is_sent = True
            # The rate of sending says nothing of the time that recognition takes.
            self._progress.reset(self._task, total=None, description=f"recognising {self._name}")

    def heard(self, seconds: float) -> None:
        """The seconds of audio that are recognised."""
        if self._seconds:
            self._progress.update(self._task, total=self._seconds, completed=min(seconds, self._seconds))


@contextmanager
def bar(path: Path, which: str, *, on_terminal: bool) -> Iterator[Bar]:
    """Shows a bar while the recording is sent and recognised; nothing where no terminal is.

    `which` is its place among several, such as "2/5".
    """
    name = f"{path.name} {which}".rstrip()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not on_terminal) as progress:
        task = progress.add_task(f"sending {name}", total=1.0)
        yield Bar(progress, task, name, length(path) if on_terminal else None)


def length(path: Path) -> float | None:
    """The length of a recording in seconds, by its header; None where it has none or is none."""
    if not path.is_file():  # a named pipe would wait
        return None
    with suppress(soundfile.LibsndfileError):
        return float(soundfile.info(path).duration)
    with suppress(av.FFmpegError, OSError), av.open(str(path)) as container:
        return container.duration / av.time_base if container.duration else None
    return None
