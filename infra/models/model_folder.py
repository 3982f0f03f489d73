"""What every model folder made here has beside its model: config.pbtxt and where the files are from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf import text_format

from inference_service.model_cards import CARD, Measurement, ModelCard
from inference_service.tasks import ModelKind
from infra.digest import files_in
from infra.models.backends import CONFIG
from infra.models.checksums import sha256_of
from infra.models.source import Arrived, Source

#: Says what the folder was made from, with the SHA-256 of its large files; `check` compares them.
ORIGIN = "origin.json"
#: Files under this size need no checksum: people change configurations.
_LARGE = 1 << 20


def card(source: Source, method: str, languages: list[str] | None) -> ModelCard:
    """What the model says of itself: of a model in the catalogue also its licence and quality."""
    entry = source.entry
    return ModelCard(
        kind=ModelKind.NEURAL,
        method=method,
        languages=entry.languages if entry else languages,
        licence=entry.licence if entry else None,
        quality=[Measurement(each.metric, each.value, each.test_set) for each in entry.quality]
        if entry
        else [],
        caveat=entry.note or None if entry and entry.task != "asr" else None,
    )


def write_config(folder: Path, config: Any, said: ModelCard) -> None:
    """Write the `inference.ModelConfig` as config.pbtxt, with the model's card."""
    config.parameters[CARD].string_value = msgspec.json.encode(said).decode()
    text = text_format.MessageToString(config, as_utf8=True)
    heading = f"# Made by `python -m infra.models`, from what {ORIGIN} says; docs/models.md explains it.\n"
    (folder / CONFIG).write_text(heading + text, encoding="utf-8")


def write_origin(folder: Path, source: Source, arrived: Arrived) -> None:
    """Write what the folder was made from, and keep git from taking gigabytes of weights."""
    large = {name: sha256_of(path) for name, path in files_in(folder) if path.stat().st_size >= _LARGE}
    origin = {
        "source": source.repository or str(source.folder),
        "revision": arrived.commit,
        "sha256": large,
    }
    (folder / ORIGIN).write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    (folder / ".gitignore").write_text("*\n", encoding="utf-8")
