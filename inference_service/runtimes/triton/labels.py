"""The names of a classifier's outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inference_service.errors import RuntimeFailed


def parse_labels(text: str, origin: str) -> list[str]:
    """Labels from JSON (a list, `{"labels": […]}`, or `{"0": …, "1": …}`) or from text with one on a line.

    Raises RuntimeFailed, naming `origin`, for anything else.
    """
    text = text.strip()
    if text[:1] in ("[", "{"):
        try:
            found: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise RuntimeFailed(f"{origin}: labels are not JSON: {error}") from error
        if isinstance(found, dict):
            found = found.get("labels") or found.get("id2label") or found
        if isinstance(found, dict) and sorted(found) == sorted(map(str, range(len(found)))):
            found = [found[str(index)] for index in range(len(found))]
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    if not (isinstance(found, list) and found and all(isinstance(label, str) for label in found)):
        raise RuntimeFailed(f"{origin}: expected a list of labels")
    if len(set(found)) != len(found):
        raise RuntimeFailed(f"{origin}: the same label occurs twice")
    return found


def find_labels(model: str, labels_path: Path | None, config: Any) -> list[str]:
    """The labels of `model`: from the file `labels_path`, else the parameter `labels` of Triton's `config`.

    Raises RuntimeFailed that says where labels can be given.
    """
    if labels_path is not None:
        try:
            return parse_labels(labels_path.read_text(encoding="utf-8"), str(labels_path))
        except (OSError, UnicodeDecodeError) as error:
            raise RuntimeFailed(
                f"model {model}: labels_path {labels_path} cannot be read: {error}"
            ) from error
    if "labels" in config.parameters:
        return parse_labels(
            config.parameters["labels"].string_value, f"model {model}: parameter labels in its config.pbtxt"
        )
    raise RuntimeFailed(
        f"model {model}: no labels; set ai.models.emotion.labels_path, "
        "or the parameter labels in its config.pbtxt"
    )
