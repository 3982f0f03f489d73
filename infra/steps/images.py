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

# The argument: an image without its tag. Prints Docker's folder, the free KiB there, and the id of a version.
_ROOM = """
root=$(docker info --format '{{.DockerRootDir}}') && [ -d "$root" ] || exit 0
free=$(df -Pk -- "$root" | awk 'NR == 2 { print $4 }')
printf '%s\\t%s\\t%s\\n' "$root" "$free" "$(docker images --quiet -- "$1" | head -n 1)"
"""


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
    _check_room(image)
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


def _check_room(image: ImageCopy) -> None:
    """Raises RemoteError where the target's disk has too little room. What is not known is no reason."""
    size = image.source.run(
        'docker image inspect --format "{{.Size}}" -- "$1"', image.reference, timeout=_SECONDS
    ).stdout.strip()
    seen = image.target.run(_ROOM, image.reference.rpartition(":")[0], timeout=_SECONDS).stdout.split("\t")
    if not size.isdigit() or len(seen) != 3:
        return
    folder, free, earlier = seen
    # Docker unpacks the archive, then its layers. An earlier version has most of them already.
    needed = int(size) * (1 if earlier.strip() else 2) // 1024
    if int(free) < needed:
        raise RemoteError(
            image.target.host,
            1,
            f"{folder} has {int(free) // 1024:,} MiB free, and the image {image.reference} needs "
            f"{needed // 1024:,} MiB",
        )


def _has(host: Connection, reference: str) -> bool:
    seen = host.run(
        'docker image inspect --format "{{.Id}}" -- "$1"', reference, timeout=_SECONDS, allowed=(0, 1)
    )
    if seen.returncode and "no such image" not in seen.stderr.lower():
        raise RemoteError(host.host, seen.returncode, seen.stderr + seen.stdout)
    return not seen.returncode


if __name__ == "__main__":
    sys.exit(run({"copy": (ImageCopy, copy)}, RemoteError, subprocess.TimeoutExpired))
