"""The catalogue, and the commands without a download."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from infra.models import catalogue, display, source
from infra.models.cli import main

pytestmark = pytest.mark.fast


def test_the_catalogue_has_whisper_of_every_size_and_a_model_of_each_other_task() -> None:
    entries = {entry.name: entry for entry in catalogue.entries()}
    assert len(entries) == len(catalogue.entries())
    assert {"tiny", "base", "small", "medium", "large-v3", "turbo", "distil-large-v3"} <= entries.keys()
    assert {entry.task for entry in entries.values()} == {"asr", "emotion", "synthesis"}
    assert len(entries["large-v3"].languages) == len(set(entries["large-v3"].languages)) == 100


def test_every_conversion_of_whisper_is_pinned_by_commit_and_by_checksum_of_its_weights() -> None:
    for entry in catalogue.entries():
        if entry.task == "asr":
            assert entry.revision, entry.name
            assert entry.files["model.bin"], entry.name
            assert {"config.json", "tokenizer.json"} <= entry.files.keys()


def test_list_prints_a_line_for_each_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for entry in catalogue.entries():
        assert f"\n{entry.name} " in printed
    assert "3.1 GB" in printed


def test_list_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in printed] == [entry.name for entry in catalogue.entries()]


@pytest.mark.parametrize(
    "arguments", [["convert", "openai/whisper-tiny"], ["export", "emotion-hubert-large"]]
)
def test_a_missing_extra_is_named_before_anything_is_downloaded(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for module in ("infra.models.convert", "infra.models.export"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    for package in ("ctranslate2", "onnxruntime"):  # stands for an environment without the extra
        monkeypatch.setitem(sys.modules, package, None)
    assert main([*arguments, "--to", str(tmp_path), "--mirror", "http://127.0.0.1:9"]) == 1
    assert "pip install 'gpu-inference-fleet[convert]'" in capsys.readouterr().err


def test_a_converted_model_need_not_be_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.models.commands._with_extra", lambda _: None)
    assert main(["convert", "large-v3", "--to", str(tmp_path)]) == 1
    assert "`fetch large-v3` brings it" in capsys.readouterr().err


def test_a_name_of_the_catalogue_is_not_a_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tiny", "own/weights"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert source.find("tiny").repository == "Systran/faster-whisper-tiny"
    assert source.find("own/weights").folder == Path("own/weights")
    assert source.find("own/other@v1").revision == "v1"


@pytest.mark.parametrize("columns", [80, 130])
def test_the_table_fits_the_terminal(columns: int) -> None:
    console = Console(file=io.StringIO(), width=columns)
    display.table(console, catalogue.entries())
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed
    assert ("Systran" in printed) == (columns > 100)
