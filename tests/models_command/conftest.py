"""A mirror with one conversion of Whisper, and the folders that a command writes to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.models_command.mirror import Mirror, mirror

REPOSITORY = "somebody/faster-whisper-small-talk"


@pytest.fixture(scope="session")
def whisper_files() -> dict[str, bytes]:
    """The files of a conversion of Whisper, in name and form; its weights are noise."""
    languages = {"<|en|>": 3, "<|fr|>": 4}
    tokens = [{"id": number, "content": token} for token, number in languages.items()]
    return {
        "model.bin": np.random.default_rng(0).bytes(2_000_000),
        "config.json": json.dumps({"lang_ids": sorted(languages.values())}).encode(),
        "tokenizer.json": json.dumps({"added_tokens": tokens}).encode(),
        "vocabulary.json": json.dumps(["x"] * 51865).encode(),
        "README.md": b"not needed",
    }


@pytest.fixture
def hub(whisper_files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of the hub; downloads wait no seconds between attempts."""
    monkeypatch.setattr("infra.models.download.download.__defaults__", ((0.0, 0.0),))
    with mirror({REPOSITORY: dict(whisper_files)}) as served:
        yield served


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, where files arrive."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model repository that does not exist yet."""
    return tmp_path / "models"


def files_in(folder: Path) -> list[str]:
    """Every file in the folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
