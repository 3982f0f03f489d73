"""A digest changes with every property of a file that may change the product made from it, and with no
other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infra.digest import digest, files_in

pytestmark = pytest.mark.fast


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.py").write_text("one")
    (tmp_path / "config.pbtxt").write_text("name: 'asr'")
    (tmp_path / "latest").symlink_to("1")
    (tmp_path / "weights").symlink_to("1/model.py")
    return tmp_path


@pytest.mark.parametrize("change", ["content", "name", "mode", "link", "new", "gone", "text"])
def test_a_change_changes_the_digest(folder: Path, change: str) -> None:
    before = digest(files_in(folder), "text")
    model = folder / "1" / "model.py"
    match change:
        case "content":
            model.write_text("two")
        case "name":
            model.rename(model.with_name("other.py"))
        case "mode":
            model.chmod(0o755)
        case "link":
            (folder / "weights").unlink()
            (folder / "weights").symlink_to(model)
        case "new":
            (folder / "empty").touch()
        case "gone":
            (folder / "config.pbtxt").unlink()
    after = digest(files_in(folder), "text" if change != "text" else "other")
    assert after != before
    assert len(after) == 16


def test_times_hidden_files_and_pythons_caches_do_not_count(folder: Path) -> None:
    before = digest(files_in(folder))
    os.utime(folder / "config.pbtxt", (1, 1))
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("x")
    (folder / ".config.pbtxt.swp").write_text("x")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "model.txt").write_text("x")
    (folder / "model.pyc").write_text("x")
    assert digest(files_in(folder)) == before


def test_of_a_large_file_size_and_time_count_instead_of_the_content(folder: Path) -> None:
    def large() -> str:
        return digest(files_in(folder), large_bytes=2)

    model = folder / "1" / "model.py"
    os.utime(model, (1, 1))
    before = large()
    model.write_text("two")
    os.utime(model, (1, 1))
    assert large() == before
    os.utime(model, (2, 2))
    assert large() != before


def test_texts_and_names_do_not_run_into_each_other(tmp_path: Path) -> None:
    assert digest((), "a", "b") != digest((), "ab")
    for name in ("ab", "a"):
        (tmp_path / name).write_text("")
    assert digest([("a", tmp_path / "a"), ("b", tmp_path / "ab")]) != digest([("ab", tmp_path / "ab")])
