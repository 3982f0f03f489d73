"""A model folder appears in a model repository whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from infra.models.problem import ModelProblem
from infra.paths import PACKAGE

#: This project's models beside `asr`: a service needs one of each, so a new repository begins with them.
COMPANIONS = ("emotion", "emotion-text", "synthesis")
_HIDDEN = ".staging-"


@contextlib.contextmanager
def staged(repository: Path, model: str, *, replace: bool) -> Iterator[Path]:
    """A folder to write the model into; at the end it becomes `repository/model`.

    After an error, also a full disk, neither it nor a repository that did not exist before is there. An
    existing model is replaced with `replace`, else it is a ModelProblem.
    """
    check_free(repository, model, replace=replace)
    created = [folder for folder in (repository, *repository.parents) if not folder.exists()]
    try:
        repository.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_HIDDEN, dir=repository) as hidden:
            new = Path(hidden) / model
            new.mkdir()
            yield new
            final = repository / model
            if final.exists():
                final.rename(Path(hidden) / f"{model}.old")
            new.rename(final)
    except BaseException as error:
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            where = error.filename or repository
            raise ModelProblem(f"{where}: {error.strerror}; nothing is left of the new model") from None
        raise


def check_free(repository: Path, model: str, *, replace: bool) -> None:
    """Raise ModelProblem if the repository has a model of that name which may not be replaced."""
    if (repository / model).exists() and not replace:
        raise ModelProblem(
            f"{repository / model} exists; --replace replaces it, --name NAME makes another beside it"
        )
    if repository.exists() and not repository.is_dir():
        raise ModelProblem(f"{repository} is a file; expected the folder of a model repository")


def add_companions(repository: Path) -> list[str]:
    """Make a repository with no other model complete: copies of this project's; returns their names."""
    models = [path for path in repository.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if len(models) > 1:
        return []
    for name in COMPANIONS:
        shutil.copytree(
            PACKAGE / "model_repository" / name,
            repository / name,
            ignore=shutil.ignore_patterns("__pycache__", "training", "evaluation"),
            dirs_exist_ok=True,
        )
    return list(COMPANIONS)
