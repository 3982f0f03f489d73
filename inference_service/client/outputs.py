"""Where results go: standard output, beside the recordings, or a folder."""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from inference_service.client.errors import ClientError


class WrongArguments(Exception):
    """Arguments that do not go together; `str(error)` names them."""


def targets(files: Sequence[str], ending: str, folder: Path | None, *, beside: bool) -> list[Path | None]:
    """The file for the result of each recording; None: standard output.

    `talk.wav` becomes `talk.srt`; where two recordings would share a file, `talk.wav.srt` and `talk.mp3.srt`.
    Raises WrongArguments where they still would.
    """
    if folder is None and not beside:
        return [None for _ in files]
    paths = [Path(each) for each in files]
    places = [folder if folder is not None else path.parent for path in paths]
    short = [place / f"{path.stem}.{ending}" for place, path in zip(places, paths, strict=True)]
    shared = Counter(short)
    chosen = [
        place / f"{path.name}.{ending}" if shared[file] > 1 or file == path else file
        for place, path, file in zip(places, paths, short, strict=True)
    ]
    twice = [file for file, count in Counter(chosen).items() if count > 1]
    if twice:
        raise WrongArguments(
            f"{twice[0]} would be the result of two recordings; give each command its own --output-dir"
        )
    return list(chosen)


def check_new(target: Path) -> None:
    """Raises ClientError for a file that is there: it may have been corrected by hand."""
    if target.exists():
        raise ClientError(f"{target}: exists already", "To write it anew: --force")


def write(target: Path, text: str) -> None:
    """Write a result whole or not at all. Raises ClientError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                out.write(text)
            Path(name).chmod(0o666 & ~_umask())
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ClientError(f"{target}: cannot be written: {error.strerror or error}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
