"""A local model repository: its models, and their versions by content."""

import functools
from pathlib import Path

from infra.digest import digest, files_in
from infra.names import MODEL_NAME

#: What to do where no model is found.
_REMEDY = (
    "; set it to the folder of the models, as ./model_repository; or set models: {source: host} for models "
    "that the hosts have"
)


class ModelsError(ValueError):
    """A model repository that cannot be copied; `str(error)` says which folder, and what is wrong."""


def version(folder: Path) -> str:
    """The digest of a model's content."""
    return digest(files_in(folder))


@functools.cache
def versions(repository: Path) -> dict[str, str]:
    """The digest of each model's content, by the model's name.

    A model is a folder with a `config.pbtxt` or a numbered version in it. Raises ModelsError without one, and
    for a model whose name is not `MODEL_NAME`.
    """
    if not repository.is_dir():
        raise ModelsError(f"models.path: there is no folder {repository} on this computer{_REMEDY}")
    digests = {}
    for folder in sorted(repository.iterdir()):
        is_model = folder.is_dir() and (
            (folder / "config.pbtxt").is_file() or any(inner.name.isdigit() for inner in folder.iterdir())
        )
        if is_model and not folder.name.startswith("."):
            if not MODEL_NAME.fullmatch(folder.name):
                raise ModelsError(
                    f"models.path: the model folder {folder.name!r} needs another name: expected letters, "
                    "digits, dots, hyphens and underscores, a letter or a digit first, at most 100"
                )
            digests[folder.name] = version(folder)
    if not digests:
        raise ModelsError(
            f"models.path: no model in {repository} (folders with config.pbtxt or a version 1){_REMEDY}"
        )
    return digests
