"""The model folder of a CTranslate2 conversion of Whisper: the code of `asr`, with weights of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from infra.doctor.linter.config import parse
from infra.models.backends import CONFIG
from infra.models.model_folder import card, write_config, write_origin
from infra.models.problem import ModelProblem
from infra.models.source import Arrived, Source
from infra.paths import PACKAGE

#: The folder of the weights in the model's folder.
WEIGHTS = "weights"
#: What `asr` opens.
REQUIRED = ("config.json", "model.bin", "tokenizer.json")
#: CTranslate2 takes Whisper weights with a smaller vocabulary for English ones.
_MULTILINGUAL = 51865
_ASR = PACKAGE / "model_repository" / "asr"


def complete(folder: Path, source: Source, arrived: Arrived) -> None:
    """Make the folder, which has the weights in it, a model folder. Raises ModelProblem.

    The folder's name becomes the model's name.
    """
    weights = folder / WEIGHTS
    missing = [name for name in REQUIRED if not (weights / name).is_file()]
    missing += [] if list(weights.glob("vocabulary.*")) else ["vocabulary.json"]
    if missing:
        raise ModelProblem(
            f"{source.title} is no CTranslate2 conversion of Whisper: {', '.join(missing)} missing; "
            "`convert` makes one of a Transformers checkpoint"
        )
    shutil.copytree(_ASR / "1", folder / "1", ignore=shutil.ignore_patterns("__pycache__"))
    config = parse((_ASR / CONFIG).read_text(encoding="utf-8"))
    config.name = folder.name
    config.parameters["model_path"].string_value = WEIGHTS
    title = source.title if source.entry is None else f"Whisper {source.title}"
    write_config(folder, config, card(source, f"{title} through CTranslate2", _languages(weights)))
    write_origin(folder, source, arrived)


def _languages(weights: Path) -> list[str]:
    """The codes of the languages that the weights know."""
    try:
        known = set(json.loads((weights / "config.json").read_text(encoding="utf-8"))["lang_ids"])
        tokens = json.loads((weights / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        languages = [token["content"].strip("<|>") for token in tokens if token["id"] in known]
        return languages if _vocabulary_size(weights) >= _MULTILINGUAL else ["en"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelProblem(f"{weights}: config.json or tokenizer.json is not Whisper's: {error}") from None


def _vocabulary_size(weights: Path) -> int:
    if (weights / "vocabulary.json").is_file():
        return len(json.loads((weights / "vocabulary.json").read_text(encoding="utf-8")))
    return (weights / "vocabulary.txt").read_text(encoding="utf-8").count("\n")
