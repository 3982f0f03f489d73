"""The names of a classifier's outputs."""

import json
from collections.abc import Sequence
from typing import Any

from inference_service.errors import RuntimeFailed
from inference_service.settings import ModelsSettings, SynthesisModelSettings
from inference_service.tasks import Task

#: Triton serves a model's configuration, but none of its files.
_PARAMETER = "labels"


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


def model_labels(
    models: ModelsSettings, model: str, width: int, config: Any
) -> tuple[tuple[str, ...], list[str]]:
    """The labels of a classifier, and what is wrong with them; none for a model that needs none.

    `width` is the number of its logits, -1 where Triton does not know it. `config` is its ModelConfig.
    """
    task = next(
        (task for task in (Task.EMOTION, Task.SYNTHESIS) if model in _classifiers(models, task)), None
    )
    # A detector of synthetic speech with one output gives a probability.
    if task is None or (task is Task.SYNTHESIS and width in (-1, 1) and not _given(models, task, config)):
        return (), []
    try:
        labels = _find_labels(models, task, model, config)
    except RuntimeFailed as error:
        return (), [str(error)]
    problems = []
    if width not in (-1, len(labels)):
        output = models.for_task(task).output_names[0]
        problems.append(f"model {model}: {len(labels)} labels for {width} logits in {output!r}")
    if task is Task.SYNTHESIS and len(synthetic(models.synthesis, labels)) not in range(1, len(labels)):
        problems.append(
            f"model {model}: ai.models.synthesis.synthetic_labels "
            f"({', '.join(models.synthesis.synthetic_labels)}) must name one of its labels and not all: "
            f"{', '.join(labels)}"
        )
    return tuple(labels), problems


def synthetic(settings: SynthesisModelSettings, labels: Sequence[str]) -> set[str]:
    """Those of `labels` that mean synthetic speech, by `synthetic_labels`, in capitals or not."""
    named = {label.casefold() for label in settings.synthetic_labels}
    return {label for label in labels if label.casefold() in named}


def _classifiers(models: ModelsSettings, task: Task) -> set[str | None]:
    if task not in models.tasks:
        return set()
    second = models.emotion.text_model_name if task is Task.EMOTION else None
    return {models.for_task(task).model_name, second} - {None}


def _given(models: ModelsSettings, task: Task, config: Any) -> bool:
    return models.for_task(task).labels_path is not None or _PARAMETER in config.parameters


def _find_labels(models: ModelsSettings, task: Task, model: str, config: Any) -> list[str]:
    path = models.for_task(task).labels_path
    if path is not None:
        try:
            return parse_labels(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise RuntimeFailed(f"model {model}: labels_path {path} cannot be read: {error}") from error
    if _PARAMETER in config.parameters:
        origin = f"model {model}: parameter {_PARAMETER} in its config.pbtxt"
        return parse_labels(config.parameters[_PARAMETER].string_value, origin)
    raise RuntimeFailed(
        f"model {model}: no labels; set ai.models.{task.model}.labels_path, or the parameter {_PARAMETER} in "
        "its config.pbtxt"
    )
