"""`check`: whether model folders have what Triton and the service need, and are what they were made from."""

from __future__ import annotations

import json
from pathlib import Path

from inference_service.settings import ModelsSettings
from infra.doctor import linter
from infra.doctor.linter import Fault
from infra.doctor.linter.config import Malformed, parse
from infra.models import whisper
from infra.models.backends import CONFIG
from infra.models.checksums import KnownFile
from infra.models.model_folder import ORIGIN


def check(repository: Path, expected: ModelsSettings | None = None) -> list[Fault]:
    """The faults of every model in a repository: the linter's, missing weights, and files that changed.

    `expected` are the service's models, None to accept any. Raises linter.NotARepository.
    """
    listing = linter.local(repository)
    faults = linter.lint(listing, expected)
    for model in listing.models:
        faults += _weights(repository, model) + _changed(repository, model)
    return faults


def _weights(repository: Path, model: str) -> list[Fault]:
    """The files that `asr` would miss in a folder of weights that config.pbtxt names within the model's."""
    file = repository / model / CONFIG
    try:
        named = parse(file.read_text(encoding="utf-8")).parameters["model_path"].string_value
    except (OSError, UnicodeDecodeError, Malformed):
        return []  # the linter's faults
    folder = repository / model / named
    # A bare name can also be one of the weights that come with Triton's environment.
    if not named or Path(named).is_absolute() or (not folder.is_dir() and named in ("base", "tiny.en")):
        return []
    path = f"{model}/{named}"
    return [
        Fault(
            model,
            path,
            None,
            f"the weights have no {name}",
            "fetch or convert the model again, with --replace",
        )
        for name in whisper.REQUIRED
        if not (folder / name).is_file()
    ]


def _changed(repository: Path, model: str) -> list[Fault]:
    """The large files that are not as they were when the folder was made."""
    folder = repository / model
    try:
        checksums = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["sha256"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError) as error:
        return [
            Fault(model, f"{model}/{ORIGIN}", None, f"it cannot be read: {error}", "make the model again")
        ]
    faults = []
    for name, sha256 in checksums.items():
        path = folder / name
        wrong = KnownFile(name, None, sha256).fault(path) if path.is_file() else f"{name} is missing"
        if wrong:
            faults.append(
                Fault(model, f"{model}/{name}", None, wrong, "make the model again, with --replace")
            )
    return faults
