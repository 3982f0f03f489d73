"""`fetch`: a model of the hub becomes a model folder, whole or not at all."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from infra.doctor.linter.config import parse
from infra.models.catalogue import find
from infra.models.cli import main
from infra.paths import PROJECT
from tests.models_command.conftest import REPOSITORY, files_in
from tests.models_command.mirror import COMMIT, Mirror

MODEL = "asr-faster-whisper-small-talk"


def fetch(hub: Mirror, models: Path, *arguments: str) -> int:
    return main(["fetch", REPOSITORY, "--to", str(models), "--mirror", hub.url, *arguments])


def test_a_fetched_whisper_is_a_complete_model_folder(
    hub: Mirror,
    models: Path,
    cache: Path,
    whisper_files: dict[str, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert fetch(hub, models) == 0
    folder = models / MODEL
    code = {path.name for path in (PROJECT / "model_repository" / "asr" / "1").glob("*.py")}
    assert {path.name for path in (folder / "1").iterdir()} == code
    weights = {name: data for name, data in whisper_files.items() if name != "README.md"}
    assert {path.name: path.read_bytes() for path in (folder / "weights").iterdir()} == weights
    config = parse((folder / "config.pbtxt").read_text())
    assert config.name == MODEL
    assert config.parameters["model_path"].string_value == "weights"
    card = json.loads(config.parameters["model_card"].string_value)
    assert (card["kind"], card["languages"]) == ("neural", ["en", "fr"])
    origin = json.loads((folder / "origin.json").read_text())
    assert (origin["source"], origin["revision"]) == (REPOSITORY, COMMIT)
    assert files_in(cache) == []
    said = capsys.readouterr().out
    assert f"gpu-inference:service.config.ai.models.asr.model_name={MODEL}" in said
    assert f"gpu-inference:models.path={models}" in said
    assert "pulumi up" in said


def test_a_new_repository_gets_the_other_models_that_a_service_needs(
    hub: Mirror, models: Path, cache: Path
) -> None:
    assert fetch(hub, models) == 0
    assert {path.name for path in models.iterdir()} == {MODEL, "emotion", "emotion-text", "synthesis"}
    assert main(["check", str(models)]) == 0
    assert fetch(hub, models, "--name", "asr-second") == 0
    assert len(list(models.iterdir())) == 5


def test_a_cut_download_goes_on_where_it_stopped(hub: Mirror, models: Path, cache: Path) -> None:
    hub.cut_after, hub.cuts = 700_000, 2
    assert fetch(hub, models) == 0
    assert [asked for asked in hub.asked if asked] == ["bytes=700000-", "bytes=1400000-"]


def test_a_lost_connection_leaves_no_model(
    hub: Mirror, models: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.cut_after = 0
    assert fetch(hub, models) == 1
    assert "goes on where it stopped" in capsys.readouterr().err
    assert not models.exists()


def test_a_second_command_asks_only_for_what_is_missing(
    hub: Mirror, models: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.models.download.download.__defaults__", ((),))
    hub.cut_after = 1_500_000
    assert fetch(hub, models) == 1
    assert [name for name in files_in(cache) if name.endswith(".part")]
    hub.cut_after, hub.asked = None, []
    assert fetch(hub, models) == 0
    assert "bytes=1500000-" in hub.asked
    assert files_in(cache) == []


@pytest.mark.parametrize("name", ["model.bin", "config.json"])
def test_a_wrong_checksum_leaves_nothing(
    hub: Mirror, models: Path, cache: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.corrupt = {name}
    assert fetch(hub, models) == 1
    assert f"{name} has the {'SHA-256' if name == 'model.bin' else 'git id'}" in capsys.readouterr().err
    assert not models.exists()
    assert files_in(cache) == []


def test_content_other_than_the_catalogues_is_refused(
    hub: Mirror, models: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["Systran/faster-whisper-base"] = {
        **hub.repositories[REPOSITORY],
        "vocabulary.txt": b"x\n" * 51865,
    }
    assert main(["fetch", "base", "--to", str(models), "--mirror", hub.url]) == 1
    pinned = find("base").files["config.json"]
    assert f"instead of {pinned}" in capsys.readouterr().err
    assert not models.exists()
    assert files_in(cache) == []


def test_a_disk_without_room_is_noticed_before_the_download(
    hub: Mirror,
    models: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Stands for a disk with 1 MB free.
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 0, 1_000_000))
    assert fetch(hub, models) == 1
    assert "1 MB free, and 2 MB are needed" in capsys.readouterr().err
    assert hub.asked == []
    assert not models.exists()


def command(*arguments: str, limit: int | None = None) -> list[str]:
    """The command in a process of its own; `limit`: bytes that it can write to a file."""
    code = f"""
import resource, sys
if {limit}: resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from infra.models.catalogue import find
from infra.models.cli import main
sys.exit(main({list(arguments)!r}))
"""
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("limit", [1_000_000, 1_999_999])
def test_a_full_disk_leaves_nothing(hub: Mirror, models: Path, cache: Path, limit: int) -> None:
    # A file that cannot grow stands for a disk that fills up: the write fails in the same place.
    ended = subprocess.run(
        command("fetch", REPOSITORY, "--to", str(models), "--mirror", hub.url, limit=limit),
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert "File too large; what arrived there is removed" in ended.stderr
    assert not models.exists()
    assert files_in(cache) == []


def test_a_disk_that_fills_up_while_the_model_is_copied_leaves_nothing(
    hub: Mirror, models: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for a repository on a smaller disk than the cache.
    def full(source: object, target: object) -> None:
        Path(str(target)).write_bytes(b"the first bytes")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "move", full)
    assert fetch(hub, models) == 1
    assert not models.exists()
    assert files_in(cache) == []


def test_a_terminated_command_leaves_no_model(hub: Mirror, models: Path, cache: Path) -> None:
    hub.delay = 0.2
    running = subprocess.Popen(
        command("fetch", REPOSITORY, "--to", str(models), "--mirror", hub.url), cwd=PROJECT
    )
    try:
        deadline = time.monotonic() + 60
        while not hub.asked and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait(30) != 0
    finally:
        running.kill()
    assert not models.exists()


def test_an_existing_model_is_replaced_only_when_asked(
    hub: Mirror, models: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(hub, models) == 0
    (models / MODEL / "weights" / "model.bin").write_bytes(b"damaged")
    assert main(["check", str(models / MODEL)]) == 1
    hub.asked.clear()
    assert fetch(hub, models) == 1
    assert hub.asked == []
    assert "--replace replaces it" in capsys.readouterr().err
    assert fetch(hub, models, "--replace") == 0
    assert main(["check", str(models / MODEL)]) == 0
    assert not [path.name for path in models.iterdir() if path.name.startswith(".")]


def test_a_new_version_of_the_code_downloads_no_weights_again(hub: Mirror, models: Path, cache: Path) -> None:
    assert fetch(hub, models) == 0
    (models / MODEL / "1" / "model.py").write_text("# of last year")
    hub.asked.clear()
    assert fetch(hub, models, "--replace") == 0
    assert hub.asked == []
    assert "of last year" not in (models / MODEL / "1" / "model.py").read_text()
    assert main(["check", str(models)]) == 0


def test_a_folder_is_as_good_as_the_hub(
    models: Path, cache: Path, tmp_path: Path, whisper_files: dict[str, bytes]
) -> None:
    source = tmp_path / "usb"
    source.mkdir()
    for name, content in whisper_files.items():
        (source / name).write_bytes(content)
    assert main(["fetch", str(source), "--to", str(models), "--name", "asr-own"]) == 0
    assert (models / "asr-own" / "weights" / "model.bin").read_bytes() == whisper_files["model.bin"]
    assert (source / "model.bin").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("large3", "did you mean large-v3"),
        ("somebody/nothing", "there is no such repository"),
        ("./nowhere/at-all", "there is no such folder"),
        ("somebody/checkpoint", "`convert` makes one"),
    ],
)
def test_an_error_names_what_is_wrong(
    hub: Mirror, models: Path, cache: Path, name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["somebody/checkpoint"] = {"config.json": b"{}"}
    assert main(["fetch", name, "--to", str(models), "--mirror", hub.url]) == 1
    assert said in capsys.readouterr().err
    assert not models.exists()


def test_a_server_that_does_not_answer_is_named(
    models: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "tiny", "--to", str(models), "--mirror", "http://127.0.0.1:9"]) == 1
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9/Systran/faster-whisper-tiny" in said
    assert "--from FOLDER" in said
    assert files_in(models.parent) == []
    assert not models.exists()
