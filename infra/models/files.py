"""A local model repository: its models, their files and their versions by content."""

from __future__ import annotations

import functools
from pathlib import Path

from infra.digest import digest, files_in


class ModelsError(ValueError):
    """A model repository that cannot be used."""


@functools.cache
def versions(repository: Path) -> dict[str, str]:
    """The models of a local repository and the digest of each one's content, by name.

    A model is a folder with a `config.pbtxt` or a numbered version in it. Raises ModelsError when there is
    none.
    """
    if not repository.is_dir():
        raise ModelsError(f"models.path: there is no folder {repository}")
    found = {}
    for folder in sorted(repository.iterdir()):
        is_model = folder.is_dir() and (
            (folder / "config.pbtxt").is_file() or any(inner.name.isdigit() for inner in folder.iterdir())
        )
        if is_model and not folder.name.startswith("."):
            found[folder.name] = digest(files_in(folder))
    if not found:
        raise ModelsError(f"models.path: no model in {repository} (folders with config.pbtxt or a version 1)")
    return found
