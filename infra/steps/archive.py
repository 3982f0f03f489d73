"""Texts as an archive for a host: `tar` there unpacks what a step has on its standard input."""

import io
import tarfile
from collections.abc import Mapping


def archive(files: Mapping[str, str]) -> bytes:
    """The files by path, readable by their owner only."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name, text in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            data = text.encode()
            entry.size, entry.mode = len(data), 0o600
            made.addfile(entry, io.BytesIO(data))
    return out.getvalue()
