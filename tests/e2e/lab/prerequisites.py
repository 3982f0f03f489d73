"""The tools that the laboratory needs on this machine, and the one line that names the missing ones."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Each tool with the Debian package that contains it.
TOOLS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "pivot_root": "util-linux",
    "tini": "tini",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "debootstrap": "debootstrap",
}
PLUGINS = ("docker", "command")


def search_path() -> str:
    """PATH, extended by the folders of system tools and of Pulumi's own installer."""
    extra = ["/usr/local/sbin", "/usr/sbin", "/sbin", str(Path.home() / ".pulumi" / "bin")]
    given = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(given + [folder for folder in extra if folder not in given])


def find(tool: str) -> str | None:
    """The path of a tool, or None."""
    return shutil.which(tool, path=search_path())


def missing() -> list[str]:
    """Every missing prerequisite, each with its package. Empty if the laboratory can run."""
    return list(_missing())


def _missing() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "root (network namespaces and Docker daemons need it)"
    for tool, package in TOOLS.items():
        if find(tool) is None:
            yield f"{tool} (Debian package {package})"
    if find("pulumi") is None:
        yield "pulumi (https://www.pulumi.com/docs/install/)"
    else:
        installed = subprocess.run(
            [str(find("pulumi")), "plugin", "ls"], capture_output=True, text=True, check=False
        ).stdout
        names = {line.split()[0] for line in installed.splitlines()[1:] if line.split()}
        for plugin in PLUGINS:
            if plugin not in names:
                yield f"Pulumi plugin {plugin} (pulumi plugin install resource {plugin})"
    if os.geteuid() == 0 and find("unshare") and not _may_make_namespaces():
        yield "the right to make network and mount namespaces (a privileged container or a real machine)"


def _may_make_namespaces() -> bool:
    command = [str(find("unshare")), "--net", "--mount", "--pid", "--fork", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
