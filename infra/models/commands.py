"""`fetch`, `convert` and `export`: from a source to a model folder in a model repository."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from infra.models import classifier, source, staging, whisper
from infra.models.catalogue import Task
from infra.models.check import check
from infra.models.problem import ModelProblem
from infra.models.source import Arrived, Bar, Source


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a command is asked for.

    `name`: see `source.find`. `to`: the model repository. `folder`: take the files from here. `model`: the
    model's name there, None for one from the source's. `replace`: an existing model of that name.
    """

    name: str
    to: Path
    folder: Path | None = None
    model: str | None = None
    mirror: str | None = None
    replace: bool = False


@dataclass(frozen=True, kw_only=True)
class Made:
    """A model folder that is in its repository now, and the other models that had to be put beside it.

    `difference`: between the outputs of an exported graph and of its checkpoint.
    """

    folder: Path
    task: Task
    source: Source
    companions: list[str]
    difference: float | None = None


def fetch(asked: Request, bar: Bar) -> Made:
    """Bring a model that is served as it is, or a catalogue's that is exported. Raises ModelProblem."""
    found = source.find(asked.name, asked.folder)
    if found.entry is not None and found.entry.format == "transformers":
        return export(asked, bar)
    model = asked.model or f"asr-{found.slug}"
    staging.check_free(asked.to, model, replace=asked.replace)
    if found.entry is not None:
        source.check_space(asked.to, found.entry.size)
    older = asked.to / model / whisper.WEIGHTS
    arrived = source.acquire(found, source.CTRANSLATE2, asked.mirror, bar, older)
    try:
        with staging.staged(asked.to, model, replace=asked.replace) as new:
            arrived.place(new / whisper.WEIGHTS)
            whisper.complete(new, found, arrived)
            _check(new)
    finally:
        arrived.discard()
    return _made(asked, model, "asr", found)


def convert(asked: Request, quantization: str, bar: Bar) -> Made:
    """Convert a Whisper checkpoint of Transformers. Raises ModelProblem."""
    converter = _with_extra("convert")
    found = _transformers(asked)
    model = asked.model or f"asr-{found.slug}"
    staging.check_free(asked.to, model, replace=asked.replace)
    arrived = source.acquire(found, source.TRANSFORMERS, asked.mirror, bar)
    try:
        converter.check_is_whisper(arrived.folder)
        with staging.staged(asked.to, model, replace=asked.replace) as new:
            converter.convert(_own(arrived, new), new / whisper.WEIGHTS, quantization)
            whisper.complete(new, found, arrived)
            _check(new)
    finally:
        arrived.discard()
    return _made(asked, model, "asr", found)


def export(
    asked: Request,
    bar: Bar,
    *,
    task: Task | None = None,
    synthetic_label: str | None = None,
    rename: dict[str, str] | None = None,
) -> Made:
    """Export an audio classifier of Transformers to ONNX. Raises ModelProblem."""
    exporter = _with_extra("export")
    found = _transformers(asked)
    entry = found.entry
    arrived = source.acquire(found, source.TRANSFORMERS, asked.mirror, bar)
    try:
        loaded = exporter.load(arrived.folder)
        task = classifier.task_of(loaded.labels, task or (entry.task if entry else None))
        synthetic = (
            classifier.synthetic_label(loaded.labels, synthetic_label) if task == "synthesis" else None
        )
        labels = classifier.renamed(loaded.labels, rename or (entry.rename if entry else {}))
        model = asked.model or (found.slug if entry else f"{task}-{found.slug}")
        with staging.staged(asked.to, model, replace=asked.replace) as new:
            (new / "1").mkdir()
            output = classifier.OUTPUTS[task]
            difference = exporter.export(loaded, new / "1" / classifier.GRAPH, output, synthetic)
            classifier.complete(new, found, arrived, task, labels, loaded.architecture)
            _check(new)
    finally:
        arrived.discard()
    return _made(asked, model, task, found, difference)


def _transformers(asked: Request) -> Source:
    found = source.find(asked.name, asked.folder)
    if found.entry is not None and found.entry.format != "transformers":
        raise ModelProblem(f"{found.title} is converted already: `fetch {found.title}` brings it")
    return found


def _with_extra(module: str) -> ModuleType:
    """The module `infra.models.<module>`, which imports torch or what comes with it."""
    try:
        # Here: torch takes seconds to load and gigabytes of disk, and most commands do without it.
        return importlib.import_module(f"infra.models.{module}")
    except ModuleNotFoundError as error:
        raise ModelProblem(
            f"the package {error.name} is not installed; it comes with the extra `convert`: "
            "pip install 'gpu-inference-fleet[convert]', in a checkout pip install -e '.[convert]'"
        ) from None


def _own(arrived: Arrived, new: Path) -> Path:
    """A folder of the checkpoint that may be written to; a tokenizer may be missing in it."""
    if arrived.downloaded or (arrived.folder / "tokenizer.json").is_file():
        return arrived.folder
    copy = new.parent / ".checkpoint"
    copy.mkdir()
    for name in arrived.names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).symlink_to((arrived.folder / name).resolve())
    return copy


def _check(new: Path) -> None:
    # The staging folder is a repository with this one model.
    if faults := [fault for fault in check(new.parent) if fault.model == new.name]:
        raise ModelProblem("; ".join(map(str, faults)))


def _made(asked: Request, model: str, task: Task, found: Source, difference: float | None = None) -> Made:
    return Made(
        folder=asked.to / model,
        task=task,
        source=found,
        companions=staging.add_companions(asked.to),
        difference=difference,
    )
