"""The commands `fleet`, `speech` and `make` that documents show exist, with their options."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from inference_service.client import command as speech
from infra.cli import app as fleet
from infra.doctor import cli as doctor
from infra.models import cli as models
from infra.paths import PROJECT

pytestmark = pytest.mark.fast

DOCUMENTS = sorted([PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").glob("*.md")])
PASSED_ON = {"doctor": doctor.parser, "models": models.parser}
FLEET: Any = typer.main.get_command(fleet.app)
SPEECH: Any = typer.main.get_command(speech.app)
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (PROJECT / "Makefile").read_text(), re.M))


def lines(document: Path) -> Iterator[str]:
    """The lines of the document's blocks of commands, with continued ones joined."""
    for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.S):
        yield from block.replace("\\\n", " ").splitlines()


def commands(document: Path) -> Iterator[list[str]]:
    """Each call of one of the three commands, as words."""
    for line in lines(document):
        if not re.search(r"\b(fleet|speech|make)\b", line):
            continue
        words = shlex.split(line, comments=True)
        for start, word in enumerate(words):
            first = start == 0 or words[start - 1] in ("|", "&&", ";") or "=" in words[start - 1]
            if first and word.removeprefix(".venv/bin/") in ("fleet", "speech", "make"):
                rest = words[start + 1 :]
                end = next((at for at, each in enumerate(rest) if each in ("|", "&&", ";")), len(rest))
                yield [word.removeprefix(".venv/bin/"), *rest[:end]]


def options(parameters: Any) -> set[str]:
    return {each for parameter in parameters for each in parameter.opts} | {"--help"}


def mistake(words: list[str]) -> str | None:
    """What is wrong with a call; None where nothing is."""
    name, *rest = words
    given = {each.partition("=")[0] for each in rest if each.startswith("-") and each != "-"}
    if name == "make":
        unknown = {each for each in rest if not each.startswith("-") and "=" not in each} - TARGETS
    elif name == "speech":
        unknown = given - options(SPEECH.params)
    elif not rest or rest[0].startswith("-"):
        unknown = given - {"--version", "--help", "--install-completion"}
    elif rest[0] not in FLEET.commands:
        unknown = {rest[0]}
    elif rest[0] in PASSED_ON:
        unknown = given - _of_parser(PASSED_ON[rest[0]]())
    elif rest[0] == "bench":
        unknown = set()
    else:
        unknown = given - options(FLEET.commands[rest[0]].params)
    return f"{shlex.join(words)}: there is no {', '.join(sorted(unknown))}" if unknown else None


def _of_parser(parser: argparse.ArgumentParser) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= _of_parser(inner)
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_the_commands_of_a_document_exist(document: Path) -> None:
    assert [found for words in commands(document) if (found := mistake(words))] == []


def test_the_tutorial_has_commands_of_all_three() -> None:
    found = {words[0] for words in commands(PROJECT / "docs" / "tutorial.md")}
    assert found == {"fleet", "speech", "make"}


@pytest.mark.parametrize(
    "words",
    [
        "fleet deplay",
        "fleet deploy --stak prod",
        "speech a.wav --fromat srt",
        "make upp",
        "fleet doctor --nod x",
    ],
)
def test_a_command_that_does_not_exist_is_found(words: str) -> None:
    assert mistake(words.split()) is not None
