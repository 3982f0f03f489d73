"""The base of the image with keepalived. Apart from `images`: only the hosts of several gateways have it."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.e2e.lab import images
from tests.e2e.lab.host import Host
from tests.e2e.lab.prerequisites import find

#: The image that stands in for Debian's, from which the product's Dockerfile installs keepalived.
BASE = "e2e/keepalived-base:2.2"
_PACKAGES = ("keepalived", "curl", "iproute2")


def load(host: Host) -> None:
    """Imports the base image on a host that runs. The first call makes it, in half a minute."""
    key = hashlib.sha256("\n".join([images.SUITE, images.MIRROR, *_PACKAGES]).encode()).hexdigest()[:16]
    tarball = images.cache() / f"keepalived-{key}.tar"
    images.cache().mkdir(parents=True, exist_ok=True)
    with (images.cache() / "lock-keepalived").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tarball.exists():
            folder = tarball.with_suffix(".partial")
            shutil.rmtree(folder, ignore_errors=True)
            made = [str(find("debootstrap")), "--variant=minbase", f"--include={','.join(_PACKAGES)}"]
            _run(*made, images.SUITE, str(folder), images.MIRROR)
            shutil.rmtree(folder / "var/cache/apt/archives")
            _run("tar", "--create", f"--file={folder}.tar", f"--directory={folder}", ".")
            Path(f"{folder}.tar").rename(tarball)
            shutil.rmtree(folder)
    host.docker("import", "-", BASE, stdin=tarball.read_bytes())


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
