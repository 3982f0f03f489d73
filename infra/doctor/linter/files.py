"""The linter's input: the names of a repository's files, and the text of its models' `config.pbtxt`.

A folder on this computer and one on a host give the same listing.
"""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from infra.models.backends import CONFIG

#: `<model>/<version>/<file>`; deeper folders are the model's own.
_DEPTH = 3


class NotARepository(Exception):
    """A folder that cannot be read as a model repository; `str(error)` has the system's reason."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's folders and files by their path in it, and the text of its models' configurations.

    `files` are path -> size in bytes; `configs` are model -> text, bytes where it is no UTF-8.
    """

    folders: frozenset[str]
    files: dict[str, int]
    configs: dict[str, str | bytes] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """The folders that Triton regards as models."""
        return sorted(name for name in self.folders if "/" not in name and not name.startswith("."))

    def inside(self, folder: str) -> set[str]:
        """The names of the files and folders directly in a folder."""
        start = f"{folder}/"
        below = {path.removeprefix(start) for path in (*self.folders, *self.files) if path.startswith(start)}
        return {name for name in below if "/" not in name}


def local(path: Path) -> Listing:
    """The listing of a folder on this computer. Raises NotARepository."""
    if not path.is_dir():
        raise NotARepository(f"{path}: " + ("not a folder" if path.exists() else "there is no such folder"))
    folders: set[str] = set()
    files: dict[str, int] = {}
    configs: dict[str, str | bytes] = {}

    def refuse(error: OSError) -> None:
        raise NotARepository(f"{error.filename}: {error.strerror}")

    for root, inner, names in os.walk(path, onerror=refuse, followlinks=True):
        here = Path(root).relative_to(path)
        folders |= {(here / name).as_posix() for name in inner}
        for name in names:
            file = Path(root) / name
            if file.exists():  # Triton does not see dangling links either
                files[(here / name).as_posix()] = file.stat().st_size
        if len(here.parts) + 1 >= _DEPTH:
            inner.clear()
    for entry in files:
        model, _, name = entry.partition("/")
        if name == CONFIG:
            try:
                configs[model] = data = (path / entry).read_bytes()
                configs[model] = data.decode("utf-8")
            except UnicodeDecodeError:
                pass  # the linter reports the bytes
            except OSError as error:
                raise NotARepository(f"{path / entry}: {error.strerror}") from None
    return Listing(frozenset(folders), files, configs)


_SCRIPT = """
cd {path} || exit 4
find -L . -mindepth 1 -maxdepth {depth} -type d 2>/dev/null | sed 's/^/d /'
find -L . -mindepth 1 -maxdepth {depth} -type f -size 0 2>/dev/null | sed 's/^/e /'
find -L . -mindepth 1 -maxdepth {depth} -type f ! -size 0 2>/dev/null | sed 's/^/f /'
for config in */{config}; do
  [ -f "$config" ] || continue
  [ -r "$config" ] || {{ echo "$config: Permission denied" >&2; exit 4; }}
  echo "c $config"
  sed 's/^/  /' "$config"; echo
done
"""


def script(path: str) -> str:
    """The shell script that lists a repository on a host, for `parse`."""
    return _SCRIPT.format(path=shlex.quote(path), depth=_DEPTH, config=CONFIG)


def parse(printed: str) -> Listing:
    """The listing from the output of `script`. Sizes are 0 for an empty file, else 1."""
    folders: set[str] = set()
    files: dict[str, int] = {}
    texts: dict[str, list[str]] = {}
    config: list[str] = []
    # For the script and for protobuf only "\n" ends a line.
    for line in printed.split("\n"):
        kind, _, rest = line.partition(" ")
        name = rest.removeprefix("./")
        if kind == "d":
            folders.add(name)
        elif kind in ("e", "f"):
            files[name] = int(kind == "f")
        elif kind == "c":
            config = texts[name.partition("/")[0]] = []
        elif line.startswith("  "):
            config.append(line[2:])
    return Listing(frozenset(folders), files, {model: "\n".join(text) for model, text in texts.items()})
