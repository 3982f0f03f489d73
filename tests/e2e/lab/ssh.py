"""The SSH files of a test fleet's operator: one key, one known_hosts and one client configuration, in one
folder."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.lab.prerequisites import find


def make_key(path: Path) -> str:
    """Creates an Ed25519 key pair at `path` and returns the text of the public key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [str(find("ssh-keygen")), "-q", "-t", "ed25519", "-N", "", "-C", "e2e", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path.with_suffix(".pub").read_text().strip()


@dataclass(frozen=True)
class Operator:
    """The operator's side of SSH. It neither reads nor writes the real user's ~/.ssh."""

    folder: Path

    @property
    def key(self) -> Path:
        return self.folder / "id_ed25519"

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def config(self) -> Path:
        """A file for `ssh -F` with the key and the known hosts, which never prompts."""
        return self.folder / "config"

    def prepare(self) -> None:
        make_key(self.key)
        self.known_hosts.touch()
        self.config.write_text(
            f"IdentityFile {self.key}\n"
            "IdentitiesOnly yes\n"
            f"UserKnownHostsFile {self.known_hosts}\n"
            "GlobalKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking yes\n"
            "BatchMode yes\n"
            "ConnectTimeout 5\n"
        )

    def trust(self, address: str, public_key: str) -> None:
        """Adds a host's key to known_hosts and removes an earlier one of that address."""
        kind_and_key = " ".join(public_key.split()[:2])
        self.distrust(address)
        with self.known_hosts.open("a") as file:
            file.write(f"{address} {kind_and_key}\n")

    def distrust(self, address: str) -> None:
        """Removes a host's key from known_hosts."""
        lines = self.known_hosts.read_text().splitlines()
        kept = [line for line in lines if line.split()[0] != address]
        self.known_hosts.write_text("".join(f"{line}\n" for line in kept))
