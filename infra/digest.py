"""The digest of a set of files. It is an image's tag, a model's version, and the revision of a process."""

import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

#: Files over this size are the weights of models; reading them takes seconds.
LARGE_BYTES = 64 << 20
_LENGTH = 16


def files_in(*folders: Path) -> Iterator[tuple[str, Path]]:
    """The files in each folder by their path in it, sorted.

    Hidden files and Python's caches are left out: editors and the interpreter write them at any time.
    """
    for folder in folders:
        for root, inner, names in os.walk(folder):
            inner[:] = sorted(name for name in inner if name != "__pycache__" and not name.startswith("."))
            for name in sorted(names):
                if not name.startswith(".") and not name.endswith(".pyc"):
                    path = Path(root) / name
                    yield path.relative_to(folder).as_posix(), path


def digest(files: Iterable[tuple[str, Path]], *texts: str, large_bytes: int | None = None) -> str:
    """16 hex digits that change when a file or one of `texts` changes.

    A file counts with its name, its executable bit, the target of a link, and its content. For files over
    `large_bytes`, size and modification time count instead of the content.
    """
    total = hashlib.sha256()
    for text in texts:
        total.update(f"{text}\0".encode())
    for name, path in files:
        executable = "x" if os.access(path, os.X_OK) else "-"
        target = path.readlink() if path.is_symlink() else ""
        total.update(f"{name}\0{executable}{target}\0".encode())
        if path.is_file():
            status = path.stat()
            if large_bytes is not None and status.st_size > large_bytes:
                total.update(f"{status.st_size} {status.st_mtime_ns}\0".encode())
            else:
                with path.open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:_LENGTH]


@functools.lru_cache(maxsize=256)
def secret_digest(salt: str, text: str) -> str:
    """16 hex digits that change when `text` changes, which may contain secrets; `salt` is no secret.

    Names have this digest, and people who see names may not see the text. A guess at a weak API key costs
    them about 40 ms of a core, instead of a microsecond.
    """
    made = hashlib.scrypt(text.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1, dklen=_LENGTH // 2)
    return made.hex()
