"""The command lines `fleet` and `speech`, from Typer, and those that `fleet` passes on, from argparse."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from inference_service.client import command as speech
from infra.cli import app as fleet
from infra.doctor import cli as doctor
from infra.models import cli as models
from scripts.reference import markdown

#: `fleet` passes these on to a command line of their own.
_PASSED_ON = {"doctor": doctor.parser, "models": models.parser}

_HEAD = """\
# Command lines

`make setup` installs `fleet` and `speech` in `.venv/bin`. [fleet.md](../fleet.md) and
[speech.md](../speech.md) explain how to use them. Every command has `--help`.
"""


@dataclass(frozen=True, slots=True)
class _Option:
    """An argument or option: as it is written, its default, where else it may come from, and its help."""

    spelled: str
    default: str
    help: str

    def row(self) -> list[str]:
        return [markdown.code(self.spelled), self.default, markdown.cell(self.help)]


def page() -> str:
    """The page as Markdown."""
    group: Any = typer.main.get_command(fleet.app)
    parts = [_HEAD]
    for name, command in group.commands.items():
        if name in _PASSED_ON:
            parts += _of_argparse(f"fleet {name}", _PASSED_ON[name]())
        else:
            parts.append(
                _command(f"fleet {name}", command.help or "", [_of_click(p) for p in command.params])
            )
    own: Any = typer.main.get_command(speech.app)
    parts.append(_command("speech", own.help or "", [_of_click(p) for p in own.params]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _command(name: str, text: str, options: list[_Option]) -> str:
    rows = [option.row() for option in options]
    body = markdown.table(("argument", "default", ""), rows) if rows else ""
    return f"## {name}\n\n{_paragraphs(text)}\n\n{body}"


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _of_click(parameter: Any) -> _Option:
    """Takes a parameter of Typer's command."""
    named = [each for each in parameter.opts if each.startswith("-")]
    spelled = ", ".join(named) or (parameter.metavar or str(parameter.name).upper())
    if parameter.nargs == -1:
        spelled += " …"
    if named and not getattr(parameter, "is_flag", False):
        spelled += f" {(parameter.metavar or str(parameter.name).upper())}"
    told = getattr(parameter, "help", None) or ""
    if parameter.envvar:
        told += f" (or the variable {markdown.code(str(parameter.envvar))})"
    value = parameter.default
    plain = value if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    default = markdown.code(str(plain)) if plain not in (None, "") else ""
    return _Option(spelled, "required" if parameter.required else default, told)


def _of_argparse(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    """The command, then its own commands."""
    inner: dict[str, argparse.ArgumentParser] = {}
    helps: dict[str, str] = {}
    options = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            inner |= action.choices
            helps |= {each.dest: each.help or "" for each in action._choices_actions}
        elif not isinstance(action, argparse._HelpAction):
            options.append(_of_action(action))
    yield _command(name, parser.description or "", options)
    for each, below in inner.items():
        yield from _of_argparse(f"{name} {each}", _described(below, helps.get(each, "")))


def _described(parser: argparse.ArgumentParser, text: str) -> argparse.ArgumentParser:
    parser.description = parser.description or text
    return parser


def _of_action(action: argparse.Action) -> _Option:
    name = str(action.metavar or action.dest.upper())
    spelled = ", ".join(action.option_strings) or name
    if action.option_strings and action.nargs != 0:
        spelled += f" {name}"
    told = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    plain = action.default if isinstance(action.default, str | int | float) else None
    shown = plain not in (None, "", False) and not isinstance(plain, bool) and "(default" not in told
    required = not action.option_strings and action.nargs not in ("?", "*")
    default = "required" if required else (markdown.code(str(plain)) if shown else "")
    return _Option(spelled, default, told)
