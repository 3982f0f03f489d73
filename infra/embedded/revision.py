"""A digest of files, so that a process whose code or models changed is restarted and no other is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_LARGE_BYTES = 64 << 20


def revision(paths: Iterable[Path]) -> str:
    """A digest of the files, and of all files in the folders, that `paths` name.

    Names and contents count; of files over 64 MiB (model weights), size and time of change instead, so that
    looking takes no time. Python's caches do not count.
    """
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted([path] if path.is_file() else path.rglob("*")):
            if file.is_file() and file.suffix != ".pyc":
                status = file.stat()
                digest.update(f"{file.relative_to(path)}\0".encode())
                if status.st_size > _LARGE_BYTES:
                    digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
                else:
                    digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
