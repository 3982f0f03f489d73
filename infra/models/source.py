"""What a command takes a model from: the catalogue, a repository of the hub, or a folder on this computer."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.models import catalogue, hub
from infra.models.catalogue import Entry
from infra.models.checksums import KnownFile
from infra.models.download import Progress
from infra.models.problem import ModelProblem

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")

#: The files of a CTranslate2 conversion of Whisper.
CTRANSLATE2 = ["config.json", "model.bin", "preprocessor_config.json", "tokenizer.json", "vocabulary.*"]
#: The files of a checkpoint of Transformers: of its weights, safetensors where the repository has them.
TRANSFORMERS = ["*.json", "*.txt", "*.model", "*.safetensors", "pytorch_model*.bin"]

#: Called before a download with the number of bytes to come; returns what counts those that arrive.
Bar = Callable[[str, int], Progress]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's files are: in `folder` on this computer, or in `repository` at `revision`.

    `entry` is the catalogue's, where the model is in it. `title` is the model's name for people, `slug` the
    part that it gives to the name of the model's folder.
    """

    title: str
    slug: str
    entry: Entry | None = None
    folder: Path | None = None
    repository: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Arrived:
    """A model's files in a folder on this computer. `downloaded`: the folder is ours to move or remove."""

    folder: Path
    names: list[str]
    commit: str | None
    downloaded: bool

    def place(self, into: Path) -> None:
        """Put the files into the folder `into`: moved where they were downloaded, else copied."""
        into.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.move if self.downloaded else shutil.copyfile)(self.folder / name, target)
        self.discard()

    def discard(self) -> None:
        """Remove what was downloaded."""
        if self.downloaded:
            shutil.rmtree(self.folder, ignore_errors=True)


def find(name: str, folder: Path | None = None) -> Source:
    """The source that `name` means: a name of the catalogue, `OWNER/REPOSITORY[@REVISION]`, or a folder.

    With `folder` the files are taken from there. Raises ModelProblem.
    """
    local = Path(name).expanduser()
    if folder is None and local.is_dir() and all(name != entry.name for entry in catalogue.entries()):
        return Source(str(local), local.resolve().name, folder=local)
    match = _REPOSITORY.fullmatch(name)
    if "/" in name:
        if match is None or name.startswith((".", "/")):
            raise ModelProblem(
                f"{name}: there is no such folder; expected one, a name of the catalogue or OWNER/REPOSITORY"
            )
        return Source(name, match[1].partition("/")[2], None, folder, match[1], match[2])
    entry = catalogue.find(name)
    return Source(entry.name, entry.name, entry, folder, entry.repository, entry.revision)


def acquire(
    source: Source, patterns: list[str], mirror: str | None, bar: Bar, older: Path | None = None
) -> Arrived:
    """Bring the source's files that match `patterns` to this computer, verified. Raises ModelProblem.

    Files that the folder `older` has with the same content are taken from there, if it is on the same file
    system.
    """
    pins = source.entry.files if source.entry else {}
    if source.folder is not None:
        return _local(source.folder, patterns, pins)
    assert source.repository is not None
    server = hub.Hub(mirror)
    if pins:
        commit, files = server.pinned(source.repository, source.revision, pins)
    else:
        commit, files = server.files(source.repository, source.revision, patterns)
        files = _without_duplicates(files)
    if not files:
        raise ModelProblem(f"{source.title} has none of the files {', '.join(patterns)}")
    folder = hub.arrivals(source.repository, commit)
    if older is not None:
        _reuse(older, files, folder)
    have = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    progress = bar(source.title, sum(file.size or 0 for file in files))
    progress(have)
    todo = [file for file in files if not file.is_at(folder / file.name)]
    check_space(hub.cache_folder(), sum(file.size or 0 for file in todo) - have)
    server.fetch(source.repository, commit, todo, folder, progress)
    return Arrived(folder, [file.name for file in files], commit, downloaded=True)


def _reuse(older: Path, files: list[KnownFile], folder: Path) -> None:
    for file in files:
        target = folder / file.name
        if not target.exists() and file.is_at(older / file.name):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                target.hardlink_to(older / file.name)
            except OSError:  # on another file system
                return


def _local(folder: Path, patterns: list[str], pins: dict[str, str | None]) -> Arrived:
    if not folder.is_dir():
        raise ModelProblem(f"{folder}: there is no such folder")
    names = sorted(
        {
            path.relative_to(folder).as_posix()
            for pattern in patterns
            for path in folder.glob(pattern)
            if path.is_file()
        }
    )
    names = [file.name for file in _without_duplicates([KnownFile(name, None) for name in names])]
    if missing := pins.keys() - set(names):
        raise ModelProblem(f"{folder}: {', '.join(sorted(missing))} missing")
    for name, sha256 in pins.items():
        if fault := KnownFile(name, None, sha256).fault(folder / name):
            raise ModelProblem(f"{folder}: {fault}, the catalogue's")
    if not names:
        raise ModelProblem(f"{folder} has none of the files {', '.join(patterns)}")
    return Arrived(folder, names, None, downloaded=False)


def _without_duplicates(files: list[KnownFile]) -> list[KnownFile]:
    """Of weights in two formats only the safetensors."""
    if any(file.name.endswith(".safetensors") for file in files):
        return [file for file in files if not file.name.startswith("pytorch_model")]
    return files


def check_space(folder: Path, size: int) -> None:
    """Raise ModelProblem if there is no room for `size` bytes where `folder` is, or would be."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < size:
        raise ModelProblem(f"{folder} has {free / 1e6:,.0f} MB free, and {size / 1e6:,.0f} MB are needed")
