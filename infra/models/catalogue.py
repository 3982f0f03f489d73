"""The catalogue: models of good name that `fetch` brings, as typed data from catalogue.yaml."""

from __future__ import annotations

import difflib
import functools
from importlib import resources
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from infra.models.problem import ModelProblem

Task = Literal["asr", "emotion", "synthesis"]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measurement(_Data):
    """One published figure of a model's quality, and the test set that it was measured on."""

    metric: str
    value: float
    test_set: str


class Entry(_Data):
    """One model of the catalogue.

    `format`: `ctranslate2` is served as it is; a `transformers` checkpoint is exported to ONNX first.
    `revision`: a commit, None for the newest. `files`: the repository's files that the model needs, with the
    SHA-256 of each where it is known. `size`: bytes to download. `memory_gb`: GB of GPU memory to allow, an
    estimate. `speed`: fast is at least four times as fast as Whisper large, medium at least twice.
    `rename`: labels of the checkpoint -> labels in the answers.
    """

    name: str
    task: Task
    format: Literal["ctranslate2", "transformers"]
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    files: dict[str, _Sha256 | None]
    size: int
    languages: list[str]
    memory_gb: float
    licence: str
    speed: Literal["fast", "medium", "slow"]
    note: str = ""
    quality: list[Measurement] = []
    rename: dict[str, str] = {}


class _File(_Data):
    languages: dict[str, list[str]]
    models: list[Entry]


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Every model of the catalogue, in its order."""
    text = resources.files("infra.models").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return tuple(_File.model_validate(yaml.safe_load(text)).models)


def find(name: str) -> Entry:
    """The entry of that name. Raises ModelProblem, which names similar ones."""
    for entry in entries():
        if entry.name == name:
            return entry
    names = [entry.name for entry in entries()]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ModelProblem(
        f"{name} is not in the catalogue; {hint}"
        "`python -m infra.models list` shows it, and OWNER/REPOSITORY names any other model of the hub"
    )
