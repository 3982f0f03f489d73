"""The names of a classifier's outputs."""

import json
from pathlib import Path
from typing import Any

from inference_service.errors import RuntimeFailed
from inference_service.runtimes.triton.contract import Contract, Interface


def parse_labels(text: str, origin: str) -> list[str]:
    """Labels from JSON (a list, `{"labels": […]}`, or `{"0": …, "1": …}`) or from text with one on a line.

    Raises RuntimeFailed, naming `origin`, for anything else.
    """
    text = text.strip()
    if text[:1] in ("[", "{"):
        try:
            labels: Any = json.loads(text)
        except json.JSONDecodeError as error:
            raise RuntimeFailed(f"{origin}: labels are not JSON: {error}") from error
        if isinstance(labels, dict):
            labels = labels.get("labels") or labels.get("id2label") or labels
        if isinstance(labels, dict) and sorted(labels) == sorted(map(str, range(len(labels)))):
            labels = [labels[str(index)] for index in range(len(labels))]
    else:
        labels = [line.strip() for line in text.splitlines() if line.strip()]
    if not (isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels)):
        raise RuntimeFailed(f"{origin}: expected a list of labels")
    if len(set(labels)) != len(labels):
        raise RuntimeFailed(f"{origin}: the same label occurs twice")
    return labels


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


def label_problems(contract: Contract, interface: Interface, labels: list[str]) -> list[str]:
    """What is wrong with the number of labels, where the model's shape has that of its logits."""
    output = interface.outputs.get(contract.outputs[0].name)
    if not labels or output is None or not output.shape or output.shape[-1] in (-1, len(labels)):
        return []
    return [f"model {contract.model}: {len(labels)} labels for {output.shape[-1]} logits in {output.name!r}"]
