"""Tables and colours on a terminal, plain lines in a pipe, JSON where it is asked for."""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Columns of output to a file or a pipe: wide enough to keep a row on one line.
_PLAIN_WIDTH = 240
#: The styles of the words that tell how a part is.
_STYLES = {
    "healthy": "green",
    "running": "green",
    "unhealthy": "bold red",
    "down": "bold red",
    "no answer": "bold red",
    "drained": "yellow",
    "create": "green",
    "update": "yellow",
    "replace": "magenta",
    "delete": "red",
}


class Failed(Exception):
    """A command that cannot go on; `str(error)` says why, and its last line what helps."""


def console(*, errors: bool = False) -> Console:
    """The terminal, or the pipe, that output goes to."""
    screen = Console(stderr=errors, highlight=False, soft_wrap=False)
    if not screen.is_terminal:
        screen.width = _PLAIN_WIDTH
    return screen


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a table; in a pipe without colours, a row a line."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, _STYLES.get(cell.partition(":")[0], "")) for cell in row))
    console().print(table)


def show_json(content: object) -> None:
    """Prints a document for programs."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def piped() -> bool:
    """Whether no person can answer a question."""
    return not (sys.stdin.isatty() and sys.stdout.isatty())
