"""A local model repository: its models, their files and their versions by content."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_VERSION_LENGTH = 16


class ModelsError(ValueError):
    """A model repository that cannot be used."""


def model_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """A model's files by their path in its folder, sorted, without what Python and editors leave behind."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and not name.endswith(".pyc"):
                path = Path(root) / name
                yield path.relative_to(folder).as_posix(), path


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
            digest = hashlib.sha256()
            for name, path in model_files(folder):
                with path.open("rb") as file:
                    digest.update(f"{name}\0".encode() + hashlib.file_digest(file, "sha256").digest())
            found[folder.name] = digest.hexdigest()[:_VERSION_LENGTH]
    if not found:
        raise ModelsError(f"models.path: no model in {repository} (folders with config.pbtxt or a version 1)")
    return found
