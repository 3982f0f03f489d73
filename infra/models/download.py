"""Downloads one file over HTTP; a download that was cut goes on where it stopped.

huggingface_hub itself begins every file anew in the next process, and compares sizes, not checksums.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx2

from infra.models.checksums import KnownFile
from infra.models.problem import ModelProblem

#: Called with the bytes that arrived since the last call; negative when a file begins anew.
Progress = Callable[[int], None]

#: Attempts without a byte, and the seconds before each.
_WAITS = (1.0, 2.0, 4.0, 8.0)
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class WrongContent(ModelProblem):
    """A file that arrived whole is not what its checksum says."""


class _Transient(Exception):
    """A failure that a later attempt may not have; `str(error)` is the reason."""


def download(
    client: httpx2.Client,
    url: str,
    file: KnownFile,
    target: Path,
    progress: Progress,
    waits: tuple[float, ...] = _WAITS,
) -> None:
    """Download `file` from `url` to `target`, and verify it there.

    The bytes that arrived are in `target` with `.part` at its name's end. They stay when the connection is
    lost, for the next call. Raises ModelProblem, WrongContent, OSError where the bytes cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    left = list(waits)
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(client, url, file, part, progress)
            break
        except (httpx2.TransportError, _Transient) as error:
            if part.exists() and part.stat().st_size > before:
                left = list(waits)
            if not left:
                raise ModelProblem(
                    f"{url}: {str(error) or type(error).__name__}; "
                    "what arrived is kept: the same command goes on where it stopped"
                ) from None
            time.sleep(left.pop(0))
    if fault := file.fault(part):
        raise WrongContent(f"{url}: {fault}; what arrived is removed")
    part.replace(target)


def _continue(client: httpx2.Client, url: str, file: KnownFile, part: Path, progress: Progress) -> None:
    have = part.stat().st_size if part.exists() else 0
    if file.size is not None and have > file.size:
        part.unlink()
        progress(-have)
        have = 0
    if have and have == file.size:
        return
    # Compressed, the bytes would be counted in another size.
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code in _TRANSIENT:
            raise _Transient(f"the server answers {response.status_code}")
        if response.status_code == 416 or (have and response.status_code == 200):
            progress(-have)  # the server gives no ranges, or has another file: from the beginning
            part.unlink()
            have = 0
            if response.status_code == 416:
                raise _Transient("the server has no such range")
        if response.status_code not in (200, 206):
            raise ModelProblem(f"{url}: the server answers {response.status_code} {response.reason_phrase}")
        with part.open("ab") as out:
            for chunk in response.iter_bytes():
                out.write(chunk)
                progress(len(chunk))
    arrived = part.stat().st_size
    if file.size is not None and arrived < file.size:
        raise _Transient(f"the connection ended after {arrived} of {file.size} bytes")
