"""Checksums of a checkpoint's files, in the two forms that the Hugging Face hub gives."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from infra.models.problem import ModelProblem

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file of a checkpoint: its name, its size in bytes, and what is known of its content.

    `sha256`: of large files the hub gives it, of others the catalogue may. `git`: the id that git gives the
    content (SHA-1 with a header), the hub's checksum of small files. `size` None: not known.
    """

    name: str
    size: int | None
    sha256: str | None = None
    git: str | None = None

    @classmethod
    def with_etag(cls, name: str, size: int | None, etag: str | None, sha256: str | None) -> KnownFile:
        """From the ETag of the hub, a SHA-256 or a git id. `sha256` is the catalogue's.

        Raises ModelProblem where the two disagree.
        """
        etag = etag or ""
        of_hub = etag if _SHA256.fullmatch(etag) else None
        if of_hub and sha256 and of_hub != sha256:
            raise ModelProblem(f"{name}: the server has SHA-256 {of_hub}, the catalogue {sha256}")
        return cls(name, size, sha256 or of_hub, etag if _GIT.fullmatch(etag) else None)

    @property
    def can_be_verified(self) -> bool:
        return bool(self.sha256 or self.git)

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is known to be this one."""
        return self.can_be_verified and path.is_file() and self.fault(path) is None

    def fault(self, path: Path) -> str | None:
        """What is wrong with the file's content at `path`; None: it is as it should be."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{self.name} has {size} bytes instead of {self.size}"
        for kind, expected in (("SHA-256", self.sha256), ("git id", self.git)):
            actual = expected and (sha256_of(path) if kind == "SHA-256" else _git_id(path, size))
            if actual != expected:
                return f"{self.name} has the {kind} {actual} instead of {expected}"
        return None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_id(path: Path, size: int) -> str:
    # usedforsecurity: the hub's checksum of small files is SHA-1; there is no other.
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
