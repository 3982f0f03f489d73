"""What the commands print: the catalogue, progress, and the next command."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from infra.models import download
from infra.models.catalogue import Entry
from infra.models.classifier import WINDOW_SECONDS
from infra.models.commands import Made
from infra.models.source import Bar
from infra.paths import PROJECT

#: Seconds between two lines of progress where there is no terminal.
_EVERY = 10.0
#: Columns of a terminal that has room for the repositories.
_WIDE = 120


def table(console: Console, entries: Sequence[Entry]) -> None:
    """Print the catalogue: a line for each model. `size` is the download, `GPU` the memory to allow there."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("model", "task", "languages"):
        shown.add_column(title, no_wrap=True)
    for title in ("size", "GPU"):
        shown.add_column(title, justify="right", no_wrap=True)
    for title in ("speed", "licence"):
        shown.add_column(title, no_wrap=True)
    wide = console.width >= _WIDE
    if wide:
        shown.add_column("repository, note", overflow="fold")
    for each in entries:
        cells = (
            each.name,
            each.task,
            "English" if each.languages == ["en"] else f"{len(each.languages)}",
            size(each.size),
            f"{each.memory_gb:g} GB",
            each.speed,
            each.licence,
            f"{each.repository}{f'; {each.note}' if each.note else ''}",
        )
        shown.add_row(*(cells if wide else cells[:-1]))
    console.print(shown)


def size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


@contextlib.contextmanager
def progress() -> Iterator[Bar]:
    """Shows downloads on standard error: a bar on a terminal, else a line every ten seconds."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:

        def begin(title: str, total: int) -> download.Progress:
            task = bars.add_task(title, total=total)
            return lambda count: bars.advance(task, count)

        yield begin


def _lines(title: str, total: int) -> download.Progress:
    done, printed = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, printed
        done += count
        if time.monotonic() - printed >= _EVERY:
            printed = time.monotonic()
            print(f"{title}: {size(done)} of {size(total)}", file=sys.stderr, flush=True)

    return advance


def summary(made: Made) -> str:
    """What was made, and the commands that put it to use on a fleet."""
    files = [path for path in made.folder.rglob("*") if path.is_file()]
    lines = [f"{made.folder}: {made.source.title}, {size(sum(path.stat().st_size for path in files))}"]
    if made.difference is not None:
        lines.append(
            f"its outputs differ from the checkpoint's by at most {made.difference:.1g} on the recording"
        )
    if made.companions:
        lines.append(
            f"{made.folder.parent} had no other model; this project's are beside it now: "
            f"{', '.join(made.companions)}"
        )
    key = f"gpu-inference:service.config.ai.models.{made.task}"
    settings = {f"{key}.model_name": made.folder.name}
    if made.task != "asr":
        # The longest audio that TensorRT's engines take; a transformer's memory grows with its square.
        settings[f"{key}.window_seconds"] = str(WINDOW_SECONDS)
    if made.task == "synthesis":
        settings[f"{key}.input_type"] = "waveform"
    repository = made.folder.parent.resolve()
    path = f"./{repository.relative_to(PROJECT)}" if repository.is_relative_to(PROJECT) else str(repository)
    settings = {"gpu-inference:models.source": "sync", "gpu-inference:models.path": path, **settings}
    arguments = " ".join(f"--plaintext {name}={value}" for name, value in settings.items())
    lines += [
        "use it on a fleet:",
        f"  pulumi config set-all --path {arguments}",
        "  pulumi up",
    ]
    return "\n".join(lines)
