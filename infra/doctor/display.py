"""The findings on a terminal: a table that fills while the checks run, then a summary of each node."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from infra.doctor.findings import Finding, Status
from infra.doctor.runner import Check

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.PROBLEM: "bold red", Status.SKIPPED: "dim"}
#: A narrower terminal gets a list.
_TABLE_COLUMNS = 90
_SIGNS = {Status.OK: "✓", Status.WARNING: "!", Status.PROBLEM: "✗", Status.SKIPPED: "–"}


def progress(console: Console, checks: Sequence[Check]) -> AbstractContextManager[object]:
    """A live table while checks run, a row for each node and the gateway; nothing without a terminal."""
    if not console.is_terminal:
        return nullcontext()
    return Live(
        get_renderable=lambda: _live_table(checks), console=console, transient=True, refresh_per_second=8
    )


def _live_table(checks: Sequence[Check]) -> Table:
    table = Table("node", "checks", "now", box=None, pad_edge=False)
    for name in names(checks):
        mine = [check for check in checks if check.where[0] == name]
        ended = [check.finding and check.finding.status for check in mine]
        signs = Text.assemble(
            *[(_SIGNS[status], _STYLES[status]) if status else ("·", "dim") for status in ended]
        )
        waiting = [check.name for check in mine if check.finding is None]
        table.add_row(name, signs, waiting[0] if waiting else "")
    return table


def names(checks: Sequence[Check] | Sequence[Finding]) -> list[str]:
    """The nodes (and the gateway) that have a check, in the order of the stack."""
    return list(dict.fromkeys(check.where[0] for check in checks))


def show(console: Console, findings: Sequence[Finding], seconds: float, *, verbose: bool) -> None:
    """Every problem and warning with its remedy, then a line for each node; all findings with `verbose`."""
    shown = [finding for finding in findings if verbose or finding.status is not Status.OK]
    places = names(findings)
    rows = list(_grouped(sorted(shown, key=lambda each: places.index(each.where[0]))))
    if rows:
        (_print_table if console.width >= _TABLE_COLUMNS else _print_list)(console, rows)
        console.print()
    for name in names(findings):
        mine = [finding for finding in findings if name in finding.where]
        console.print(f"{escape(name)}: {_counted(mine)}")
    console.print(f"{len(findings)} checks in {seconds:.1f} s: {_counted(findings)}")


def _print_table(console: Console, findings: Sequence[Finding]) -> None:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
    for title in ("", "where", "check"):
        table.add_column(title, no_wrap=True)
    table.add_column("seen, and what to do", overflow="fold")
    for each in findings:
        style = _STYLES[each.status]
        name = Text(each.check, style)
        table.add_row(Text(_SIGNS[each.status], style), ", ".join(each.where), name, _text(each))
    console.print(table)


def _print_list(console: Console, findings: Sequence[Finding]) -> None:
    """For a terminal that is too narrow for the table's last column."""
    for each in findings:
        sign, name = (_SIGNS[each.status], _STYLES[each.status]), (each.check, _STYLES[each.status])
        console.print(Text.assemble(sign, f" {', '.join(each.where)}: ", name))
        console.print(Padding(_text(each), (0, 0, 0, 2)))


def _text(finding: Finding) -> Text:
    remedy = (f"\n→ {finding.remedy}", "cyan") if finding.remedy else ""
    return Text.assemble(finding.seen, remedy)


def _grouped(findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings; checks that one failure skips at one place are one."""
    groups: dict[object, list[Finding]] = {}
    for each in findings:
        skipped = each.status is Status.SKIPPED
        groups.setdefault((each.where, each.seen) if skipped else id(each), []).append(each)
    for first, *others in groups.values():
        if others:
            checks = ", ".join(each.check for each in (first, *others))
            yield replace(first, check=f"{len(others) + 1} checks", seen=f"{first.seen} ({checks})")
        else:
            yield first


def _counted(findings: Sequence[Finding]) -> str:
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}

    def words(status: Status, count: int) -> str:
        plural = "s" if count > 1 and status in (Status.WARNING, Status.PROBLEM) else ""
        return f"[{_STYLES[status]}]{count} {status}{plural}[/]"

    return ", ".join(words(status, count) for status, count in counts.items() if count)
