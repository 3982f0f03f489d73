"""Copies an image from the host that built it to another one: `python -m infra.steps.images copy`.

Each host could build the image itself. But bases without a digest differ from day to day, and a build takes
longer than a copy.
"""

import subprocess
import sys
import tempfile
import time

from infra.connection import Connection, RemoteError
from infra.declaration import Declaration
from infra.steps.run import run

_SECONDS = 60


class ImageCopy(Declaration, frozen=True, kw_only=True):
    """An image by its reference, the host that has it, and the host that needs it."""

    reference: str
    source: Connection
    target: Connection


def copy(image: ImageCopy) -> None:
    """Streams the image through this computer, unless the target has it. Raises RemoteError."""
    if _has(image.target, image.reference):
        print(f"{image.reference} is there already")
        return
    if not _has(image.source, image.reference):
        raise RemoteError(image.source.host, 1, f"there is no image {image.reference} to copy")
    began = time.monotonic()
    # A pipe for the errors could fill and stop the copy.
    with tempfile.TemporaryFile() as said:
        source = subprocess.Popen(
            image.source.command('exec docker save -- "$1"', image.reference),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        loaded = subprocess.run(
            image.target.command("exec docker load --quiet"),
            stdin=source.stdout,
            capture_output=True,
            check=False,
        )
        assert source.stdout is not None
        source.stdout.close()  # A source whose target has ended would wait for ever.
        status = source.wait()
        said.seek(0)
        words = said.read().decode(errors="replace")
    # A target refuses an image that is cut, so the source's reason comes first. A source whose target has
    # ended says nothing, or that its pipe is broken.
    if status and words.strip() and "broken pipe" not in words.lower():
        raise RemoteError(image.source.host, status, f"{image.reference} cannot be read: {words}")
    if loaded.returncode:
        words = (loaded.stderr + loaded.stdout).decode(errors="replace")
        raise RemoteError(
            image.target.host, loaded.returncode, f"{image.reference} cannot be written: {words}"
        )
    if not _has(image.target, image.reference):
        raise RemoteError(image.target.host, 1, f"{image.reference} is not there after its copy")
    print(f"copied {image.reference} from {image.source.host} in {time.monotonic() - began:.0f} s")


def _has(host: Connection, reference: str) -> bool:
    seen = host.run(
        'docker image inspect --format "{{.Id}}" -- "$1"', reference, timeout=_SECONDS, allowed=(0, 1)
    )
    if seen.returncode and "no such image" not in seen.stderr.lower():
        raise RemoteError(host.host, seen.returncode, seen.stderr + seen.stdout)
    return not seen.returncode


if __name__ == "__main__":
    sys.exit(run({"copy": (ImageCopy, copy)}, RemoteError, subprocess.TimeoutExpired))
