"""What the models of a local repository say of themselves, read without Triton."""

from collections.abc import Iterable
from pathlib import Path

from inference_service.model_cards import ModelDescription, describe
from infra.models.backends import CONFIG
from infra.models.pbtxt import parameters


def cards(repository: Path, models: Iterable[str] | None = None) -> dict[str, ModelDescription]:
    """What each model says of itself, by the model's name; of `models`, or of all in the folder.

    A model without a config.pbtxt says nothing, and is left out.
    """
    if models is None:
        models = sorted(path.parent.name for path in repository.glob(f"*/{CONFIG}"))
    configs = {model: repository / model / CONFIG for model in models}
    return {
        model: describe(model, parameters(config.read_text(encoding="utf-8", errors="replace")))
        for model, config in configs.items()
        if config.is_file()
    }
