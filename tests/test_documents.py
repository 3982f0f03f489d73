"""Each command of docs/deploy.md is in the table that names the test that runs it, or why none does.

The pages of docs/reference/ are those that the code gives.
"""

from __future__ import annotations

import ast

import pytest

from infra.paths import PROJECT
from scripts.reference.__main__ import PAGES, stale
from tests.e2e.documents import DEPLOY, NOT_RUN, RUN, SET, blocks

pytestmark = pytest.mark.fast

_TABLE = "the tables RUN, SET and NOT_RUN in tests/e2e/documents.py"


def test_each_block_of_commands_is_in_one_row_of_the_table() -> None:
    for block in blocks(DEPLOY, "sh"):
        rows = [text for text in (*RUN, *SET, *NOT_RUN) if text in block]
        assert len(rows) == 1, (
            f"docs/deploy.md has these commands, and {_TABLE} have {rows or 'no row'} for them. "
            f"Run them in tests/e2e/test_9_documents.py and add one row with a text of the block:\n{block}"
        )


def test_each_row_of_the_table_is_a_block_of_the_document() -> None:
    for text in (*RUN, *SET, *NOT_RUN):
        found = [block for block in blocks(DEPLOY, "sh") if text in block]
        assert len(found) == 1, f"{text!r} in {_TABLE} fits {len(found)} blocks of docs/deploy.md"


@pytest.mark.parametrize("test", sorted(set(RUN.values())))
def test_the_tests_of_the_table_run_the_blocks_of_their_rows(test: str) -> None:
    file, _, name = test.partition("::")
    tree = ast.parse((PROJECT / file).read_text())
    [function] = [each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name]
    texts = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant)}
    for text, runs in RUN.items():
        assert runs != test or text in texts, f"{name} does not run the block with {text!r}"


def test_the_files_of_the_table_exist() -> None:
    for file in SET.values():
        assert (PROJECT / "tests" / "e2e" / file).is_file(), file


def test_the_reference_is_what_the_code_gives() -> None:
    assert not stale(), "run .venv/bin/python -m scripts.reference"


@pytest.mark.parametrize(
    ("page", "row"),
    [
        ("stack.md", "| `canary` | integer, at least 0 | `1` |"),
        ("commands.md", "| `--stack, -s STACK` | `dev` |"),
        ("commands.md", "## fleet doctor models"),
        ("http.md", "## POST /api/v1/ai/asr"),
        ("grpc.md", "| 3 | `sample_rate` | int32 |"),
        ("metrics.md", "| `ai_gateway_requests_total` | counter | `entrance`, `status`, `upstream` |"),
    ],
)
def test_the_reference_tells_what_a_person_looks_up(page: str, row: str) -> None:
    assert row in PAGES[page]()


def test_the_pictures_of_the_documents_are_few_small_and_shown() -> None:
    pictures = sorted((PROJECT / "docs" / "pictures").iterdir())
    assert 0 < len(pictures) <= 6
    shown = "".join(
        file.read_text() for file in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))
    )
    for picture in pictures:
        assert picture.stat().st_size < 150_000, picture.name
        assert f"pictures/{picture.name}" in shown, f"no document shows {picture.name}"
