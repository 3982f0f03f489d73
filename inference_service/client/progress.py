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
    ProgressColumn,
    Task,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


class Remaining(ProgressColumn):
    """The remaining time at the speed until the last step, counted down since.

    Rich's own column forgets a step after 30 s, and needs two.
    """

    def render(self, task: Task) -> Text:
        """Nothing until the first step."""
        if not task.completed or not task.total or not task.elapsed:
            return Text("")
        until: float = task.fields.get("until", task.elapsed)  # the time of the last step
        left = max(0.0, until * task.total / task.completed - task.elapsed)
        return Text(f"{int(left // 60)}:{int(left % 60):02} left")


class Bar:
    """The progress of one recording."""

    def __init__(self, progress: Progress, task: TaskID, name: str, seconds: float | None) -> None:
        self._progress, self._task, self._name, self._seconds = progress, task, name, seconds
        self._is_sent = False

    def sent(self, part: float) -> None:
        """The fraction of the file that is sent; after all of it, the service recognises."""
        if self._is_sent:
            return
        self._step(part, 1.0)
        if part >= 1.0:
            self._is_sent = True
            # The rate of sending says nothing of the time that recognition takes.
            self._progress.reset(self._task, total=None, description=f"recognising {self._name}")

    def heard(self, seconds: float) -> None:
        """The seconds of audio that are recognised."""
        if self._seconds:
            self._step(min(seconds, self._seconds), self._seconds)

    def _step(self, completed: float, total: float) -> None:
        [task] = self._progress.tasks
        self._progress.update(self._task, completed=completed, total=total, until=task.elapsed or 0.0)


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
        Remaining(),
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
